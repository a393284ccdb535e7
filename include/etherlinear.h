/* ether in C: adapters from disk, the row operation, the layer, merges. For C99 and later, and for whatever
 * calls C (Python's ctypes, Rust, Go). Link libetherlinear; with CMake the target ether::etherlinear.
 *
 *     W' = H_out W H_in,  y = ((x H_in) W^T) H_out + bias            (arXiv 2405.20271)
 *
 * Matrices are row-major: element (r, c) is data[r * stride + c], stride in elements. Weights are (out, in),
 * x (tokens, in), y (tokens, out), as torch.nn.Linear has them. Row counts and sizes are int64_t.
 *
 * Functions return ETHERLINEAR_OK or what went wrong, and then etherlinear_message() is its sentence. A
 * call that fails has written nothing. Handles are made by a ..._create or ..._open function, and freed by
 * the ..._free of their kind, which takes NULL too. A handle that is not being changed may be used by
 * several threads at once, each with a context of its own. No exception leaves these functions.
 *
 * Code for the processor's vector instructions is chosen when the library is first used. */
#ifndef ETHERLINEAR_H
#define ETHERLINEAR_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define ETHERLINEAR_API
#else
#define ETHERLINEAR_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum etherlinear_status {
  ETHERLINEAR_OK = 0,
  ETHERLINEAR_SHAPE_ERROR = 1,     /* rows, columns or a stride do not fit, or memory overlaps */
  ETHERLINEAR_PARAMETER_ERROR = 2, /* an adapter that is no adapter; a value that is not allowed */
  ETHERLINEAR_ILL_CONDITIONED = 3, /* a transform too close to singular to be undone */
  ETHERLINEAR_IO_ERROR = 4,        /* a file could not be read or written */
  ETHERLINEAR_FORMAT_ERROR = 5,    /* a file was read and breaks its format */
  ETHERLINEAR_OUT_OF_MEMORY = 6,
  ETHERLINEAR_OTHER_ERROR = 7
} etherlinear_status;

/* The sentence of this thread's last call that failed; valid until its next one fails. Never NULL. */
ETHERLINEAR_API const char* etherlinear_message(void);
/* "0.1.0" */
ETHERLINEAR_API const char* etherlinear_version(void);
/* The instructions in use: "sse2", "avx2", "avx512", or "native" where there is no choice. */
ETHERLINEAR_API const char* etherlinear_instructions(void);

/* --- An adapter: the parameters of one linear layer --------------------------------------------------- */

typedef enum etherlinear_variant {
  ETHERLINEAR_ETHER = 0,
  ETHERLINEAR_ETHER_PLUS = 1
} etherlinear_variant;
typedef enum etherlinear_sides {
  ETHERLINEAR_INPUT = 0,
  ETHERLINEAR_OUTPUT = 1,
  ETHERLINEAR_BOTH = 2
} etherlinear_sides;
typedef enum etherlinear_layout {
  ETHERLINEAR_DIAGONAL = 0, /* the paper's */
  ETHERLINEAR_ROW_CHUNK = 1 /* what the authors' training code computes for several blocks */
} etherlinear_layout;

typedef struct etherlinear_config {
  etherlinear_variant variant;
  etherlinear_sides sides;
  etherlinear_layout layout;
  int64_t input_blocks;  /* divides in; 1 where the side is not adapted */
  int64_t output_blocks; /* divides out */
  double strength;       /* 0 is the frozen layer, 1 the trained one. Not a LoRA's alpha / r. */
} etherlinear_config;

typedef struct etherlinear_adapter etherlinear_adapter;

/* Copies the vectors: u and v of the input side, (in) each, then of the output side, (out) each, block after
 * block, of any length; v for ETHER+ only; NULL for what the config does not have. */
ETHERLINEAR_API etherlinear_status
etherlinear_adapter_create(const etherlinear_config* config, int64_t out, int64_t in,
                           const float* input_u, const float* input_v, const float* output_u,
                           const float* output_v, etherlinear_adapter** adapter);
/* Takes effect when the adapter is next given to a layer. */
ETHERLINEAR_API etherlinear_status etherlinear_adapter_set_strength(etherlinear_adapter* adapter,
                                                                    double strength);
ETHERLINEAR_API etherlinear_status etherlinear_adapter_config(const etherlinear_adapter* adapter,
                                                              etherlinear_config* config,
                                                              int64_t* out, int64_t* in);
ETHERLINEAR_API void etherlinear_adapter_free(etherlinear_adapter* adapter);

/* --- A directory of adapters on disk: adapter_config.json and adapter_model.safetensors --------------- */

typedef struct etherlinear_directory etherlinear_directory;

/* Reads and checks all of it. `path` is UTF-8. */
ETHERLINEAR_API etherlinear_status etherlinear_directory_open(const char* path,
                                                              etherlinear_directory** directory);
ETHERLINEAR_API int64_t etherlinear_directory_size(const etherlinear_directory* directory);
/* The name of module `index`, such as model.layers.0.self_attn.q_proj, in alphabetical order; NULL beyond
 * the last. Valid as long as the directory. */
ETHERLINEAR_API const char* etherlinear_directory_module(const etherlinear_directory* directory,
                                                         int64_t index);
/* The adapter of a module, for its weight (out, in). */
ETHERLINEAR_API etherlinear_status
etherlinear_directory_adapter(const etherlinear_directory* directory, const char* module,
                              int64_t out, int64_t in, etherlinear_adapter** adapter);
ETHERLINEAR_API void etherlinear_directory_free(etherlinear_directory* directory);

/* --- A layer ------------------------------------------------------------------------------------------- */

typedef enum etherlinear_type {
  ETHERLINEAR_FLOAT32 = 0,
  ETHERLINEAR_BFLOAT16 = 1,
  ETHERLINEAR_FLOAT16 = 2
} etherlinear_type;

/* Threads and workspace: one for each thread that calls. Workspace is kept, so that calls of a size seen
 * before allocate nothing. */
typedef struct etherlinear_context etherlinear_context;

/* `threads` 0: as many as OpenMP gives. 1 starts none. */
ETHERLINEAR_API etherlinear_status etherlinear_context_create(int threads,
                                                              etherlinear_context** context);
/* Work runs on the host's threads instead: parallel_for calls task(data, index, thread) once for every
 * 0 <= index < count, with 0 <= thread < threads and no two at the same time of the same `thread`, and
 * returns when all are done. */
typedef void (*etherlinear_task)(const void* data, int64_t index, int thread);
typedef void (*etherlinear_parallel_for)(void* pool, int64_t count, etherlinear_task task,
                                         const void* data);
ETHERLINEAR_API etherlinear_status etherlinear_context_create_on(
    int threads, etherlinear_parallel_for parallel_for, void* pool, etherlinear_context** context);
ETHERLINEAR_API void etherlinear_context_free(etherlinear_context* context);

/* An adapter, and the weight's rows [first, first + its out) that it is for. `order`: the weight's row
 * first + r is the adapter's output row order[r], a permutation; NULL: r. An engine that permutes the rows of
 * q and k (as llama.cpp does) must say so: H_out applied to rows in another order is another transform,
 * without any error. */
typedef struct etherlinear_part {
  const etherlinear_adapter* adapter;
  int64_t first;
  const int64_t* order;
} etherlinear_part;

typedef struct etherlinear_layer etherlinear_layer;

/* Of a weight (out, in) of `type`, and a bias (out) or NULL; they must outlive the layer, and are never
 * written. `weight` NULL: a layer for the row operations alone, `type` being that of x and y. Rows that no
 * part is for are left as they are. The adapters may be freed afterwards. */
ETHERLINEAR_API etherlinear_status etherlinear_layer_create(
    etherlinear_type type, const void* weight, int64_t out, int64_t in, int64_t stride,
    const etherlinear_part* parts, size_t part_count, const void* bias, etherlinear_layer** layer);
/* Another adapter of the same shape for part `part`. Not while another thread uses the layer. */
ETHERLINEAR_API etherlinear_status etherlinear_layer_set_adapter(
    etherlinear_layer* layer, size_t part, const etherlinear_adapter* adapter);
ETHERLINEAR_API void etherlinear_layer_free(etherlinear_layer* layer);

/* y = ((x H_in) W^T) H_out + bias. Overwrites y. */
ETHERLINEAR_API etherlinear_status etherlinear_forward(const etherlinear_layer* layer,
                                                       etherlinear_context* context, int64_t tokens,
                                                       const void* x, int64_t x_stride, void* y,
                                                       int64_t y_stride);
/* merged = W' (out, in). Overwrites merged, which may be the weight itself. */
ETHERLINEAR_API etherlinear_status etherlinear_merge(const etherlinear_layer* layer,
                                                     etherlinear_context* context, void* merged,
                                                     int64_t stride);

/* The row operation alone, around a product of the caller's own. The context may be NULL: then the calling
 * thread does it.
 *
 * z = x H_in as the weight's row `row` sees it, overwritten; z may be x, unless others read x too.
 * All rows see the same in layout diagonal with one part: give row 0. */
ETHERLINEAR_API etherlinear_status etherlinear_reflect_input(const etherlinear_layer* layer,
                                                             etherlinear_context* context,
                                                             int64_t row, int64_t tokens,
                                                             const void* x, int64_t x_stride,
                                                             void* z, int64_t z_stride);
/* How many rows from `row` on see the same H_in; 0 for a row that the weight has not. */
ETHERLINEAR_API int64_t etherlinear_rows_alike(const etherlinear_layer* layer, int64_t row);
/* y = s H_out + bias + residual, overwritten; y may be s, or the residual. bias (out) and residual
 * (tokens, out) may be NULL. */
ETHERLINEAR_API etherlinear_status etherlinear_reflect_output(
    const etherlinear_layer* layer, etherlinear_context* context, int64_t tokens, const void* s,
    int64_t s_stride, void* y, int64_t y_stride, const void* bias, const void* residual,
    int64_t residual_stride);

/* --- Checkpoints on disk ------------------------------------------------------------------------------- */

/* Merges adapters, one after the other, into a checkpoint in the Hugging Face layout, as `ether merge`
 * does. The output appears whole or not at all; one that exists is replaced only where `replace` is not 0. */
ETHERLINEAR_API etherlinear_status etherlinear_merge_checkpoint(const char* base,
                                                                const char* const* adapters,
                                                                size_t adapter_count,
                                                                const char* output, int replace);

#ifdef __cplusplus
}
#endif
#endif
