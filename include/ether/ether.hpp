#pragma once

/// ether: ETHER and ETHER+ adapters for frozen linear layers (ICML 2024, arXiv 2405.20271).
/// C++17 and Eigen.

// clang-format off
#include <ether/version.hpp>           // ETHER_VERSION_*, the namespaces that carry it
#include <ether/error.hpp>             // error and its kinds, Status
#include <ether/matrix_view.hpp>       // Index, MatrixView
#include <ether/transform.hpp>         // Variant, Sides, BlockLayout, AdapterConfig, Reflection
#include <ether/adapter.hpp>           // Adapter: u and v on the host
#include <ether/analysis.hpp>          // distance to the identity, condition number
#include <ether/backend.hpp>           // the seam
#include <ether/adapted_rows.hpp>      // AdaptedRows: which rows of a weight, in which order
#include <ether/prepared_adapter.hpp>  // PreparedAdapter: normalised, in backend memory
#include <ether/reflect.hpp>           // reflect_input, reflect_output
#include <ether/weight.hpp>            // DenseWeight, MixedWeight, what a Weight of yours needs
#include <ether/adapter_bank.hpp>      // AdapterBank: an adapter for each row of a batch
#include <ether/bank_gradients.hpp>    // BankGradients
#include <ether/model_bank.hpp>        // ModelBank: the banks of a model, adapters by name
#include <ether/ether_linear.hpp>      // EtherLinear: forward, backward, merge, unmerge
#include <ether/backends/eigen.hpp>    // EigenBackend<float | double | bfloat16 | half>
// clang-format on
