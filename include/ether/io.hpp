#pragma once

/// ether::io: checkpoints and adapters on disk. C++17, Eigen and nlohmann/json; POSIX. Link
/// ether::io.

// clang-format off
#include <ether/io/file.hpp>                // MappedFile, OutputFile
#include <ether/io/dtype.hpp>               // Dtype, conversion to and from double
#include <ether/io/json.hpp>                // strict JSON
#include <ether/io/safetensors.hpp>         // SafetensorsFile, SafetensorsHeader
#include <ether/io/refusal.hpp>             // Refusal: what an option would permit
#include <ether/io/output_place.hpp>        // OutputPlace: checked without writing
#include <ether/io/staged_output.hpp>       // StagedOutput: whole or not at all
#include <ether/io/write_safetensors.hpp>   // write_safetensors
#include <ether/io/checkpoint.hpp>          // Checkpoint: a file or a sharded directory
#include <ether/io/adapter_config.hpp>      // AdapterFileConfig, ModulePattern
#include <ether/io/adapted_module.hpp>      // AdaptedModule: a weight of a base that is adapted
#include <ether/io/adapter_file.hpp>        // AdapterFile: an adapter on disk, and its base
#include <ether/io/save_adapter.hpp>        // save_adapter
#include <ether/io/init_adapter.hpp>        // init_adapter
#include <ether/io/progress.hpp>            // Progress, ProgressCallback
#include <ether/io/parallel.hpp>            // tasks on threads
#include <ether/io/weight_transform.hpp>    // WeightTransform: adapters on a stored weight
#include <ether/io/norm.hpp>                // Norm: of numbers of any size
#include <ether/io/weight_change.hpp>       // how much of a weight changed
#include <ether/io/other_files.hpp>         // what else is in a model's directory
#include <ether/io/rewrite_plan.hpp>        // the pieces of the next
#include <ether/io/rewrite_checkpoint.hpp>  // CheckpointRewrite: a copy with some weights changed
#include <ether/io/verify_merge.hpp>        // a merged weight against plain loops
#include <ether/io/merge_options.hpp>       // MergeOptions, MergeReport
#include <ether/io/merge_checkpoint.hpp>    // merge_checkpoint, unmerge_checkpoint
#include <ether/io/peft_export.hpp>         // what the next two have in common
#include <ether/io/export_lora.hpp>         // LoraExport
#include <ether/io/export_hra.hpp>          // HraExport
#include <ether/io/diff_checkpoints.hpp>    // diff_checkpoints
// clang-format on
