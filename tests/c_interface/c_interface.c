/* The C interface in C: a layer, the row operation around a product of this program's own, errors. */

#include <etherlinear.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { OUT = 6, IN = 4, TOKENS = 3, OUT_BLOCKS = 3, IN_BLOCKS = 2 };

static int faults = 0;

static void expect(int right, const char* what) {
  if (right) return;
  printf("wrong: %s (%s)\n", what, etherlinear_message());
  ++faults;
}

/* m (rows, width) <- m H, H = diag(I - 2 u u^T / |u|^2). */
static void reflect(double* m, int rows, int width, int blocks, const float* u) {
  const int size = width / blocks;
  for (int r = 0; r < rows; ++r)
    for (int b = 0; b < blocks; ++b) {
      double dot = 0, length = 0;
      for (int i = b * size; i < (b + 1) * size; ++i) {
        dot += m[r * width + i] * u[i];
        length += (double)u[i] * u[i];
      }
      for (int i = b * size; i < (b + 1) * size; ++i) m[r * width + i] -= 2 * dot / length * u[i];
    }
}

/* s = z w^T in double. */
static void multiply(const double* z, const float* w, double* s) {
  for (int t = 0; t < TOKENS; ++t)
    for (int o = 0; o < OUT; ++o) {
      s[t * OUT + o] = 0;
      for (int i = 0; i < IN; ++i) s[t * OUT + o] += z[t * IN + i] * w[o * IN + i];
    }
}

/* Not NaN either. */
static int near(const float* actual, const double* expected, int count) {
  for (int i = 0; i < count; ++i)
    if (!(fabs(actual[i] - expected[i]) <= 1e-5)) return 0;
  return 1;
}

static int calls = 0;
static void parallel_for(void* pool, int64_t count, etherlinear_task task, const void* data) {
  *(int*)pool += 1;
  for (int64_t i = count - 1; i >= 0; --i) task(data, i, 0);
}

int main(void) {
  float w[OUT * IN], x[TOKENS * IN], y[TOKENS * OUT], bias[OUT], u_in[IN], u_out[OUT],
      merged[OUT * IN];
  for (int i = 0; i < OUT * IN; ++i) w[i] = (float)sin(1 + 7 * i);
  for (int i = 0; i < TOKENS * IN; ++i) x[i] = (float)cos(2 + 5 * i);
  for (int i = 0; i < OUT; ++i) bias[i] = (float)i, u_out[i] = (float)(1 + sin(3 * i));
  for (int i = 0; i < IN; ++i) u_in[i] = (float)(2 + cos(i));

  double z[TOKENS * IN], s[TOKENS * OUT], expected[TOKENS * OUT];
  for (int i = 0; i < TOKENS * IN; ++i) z[i] = x[i];
  reflect(z, TOKENS, IN, IN_BLOCKS, u_in);
  multiply(z, w, s);
  memcpy(expected, s, sizeof s);
  reflect(expected, TOKENS, OUT, OUT_BLOCKS, u_out);
  for (int i = 0; i < TOKENS * OUT; ++i) expected[i] += bias[i % OUT];

  const etherlinear_config config = {ETHERLINEAR_ETHER, ETHERLINEAR_BOTH, ETHERLINEAR_DIAGONAL,
                                     IN_BLOCKS,         OUT_BLOCKS,       1.0};
  etherlinear_adapter* adapter = NULL;
  expect(etherlinear_adapter_create(&config, OUT, IN, u_in, NULL, u_out, NULL, &adapter) == 0,
         "the adapter is made");
  etherlinear_config same;
  int64_t out = 0, in = 0;
  expect(etherlinear_adapter_config(adapter, &same, &out, &in) == 0 && out == OUT && in == IN &&
             same.output_blocks == OUT_BLOCKS && same.sides == ETHERLINEAR_BOTH,
         "its configuration");
  etherlinear_context* context = NULL;
  expect(etherlinear_context_create(1, &context) == 0, "the context is made");
  const etherlinear_part part = {adapter, 0, NULL};
  etherlinear_layer* layer = NULL;
  expect(etherlinear_layer_create(ETHERLINEAR_FLOAT32, w, OUT, IN, IN, &part, 1, bias, &layer) == 0,
         "the layer is made");
  expect(etherlinear_forward(layer, context, TOKENS, x, IN, y, OUT) == 0 &&
             near(y, expected, TOKENS * OUT),
         "forward");
  expect(etherlinear_merge(layer, context, merged, IN) == 0, "merge");
  for (int i = 0; i < TOKENS * IN; ++i) z[i] = x[i];
  double by_merged[TOKENS * OUT];
  multiply(z, merged, by_merged);
  for (int i = 0; i < TOKENS * OUT; ++i) by_merged[i] += bias[i % OUT];
  expect(near(y, by_merged, TOKENS * OUT), "the merged weight");

  /* The row operation, with rows in another order: pairs exchanged, as from order[r]. */
  const int64_t order[OUT] = {1, 0, 3, 2, 5, 4};
  const etherlinear_part swapped = {adapter, 0, order};
  etherlinear_layer* rows = NULL;
  expect(etherlinear_layer_create(ETHERLINEAR_FLOAT32, NULL, OUT, IN, IN, &swapped, 1, NULL,
                                  &rows) == 0,
         "a layer for rows alone");
  float z_float[TOKENS * IN], s_float[TOKENS * OUT];
  expect(etherlinear_rows_alike(rows, 1) == OUT - 1 && etherlinear_rows_alike(rows, OUT) == 0,
         "rows that are alike");
  expect(etherlinear_reflect_input(rows, NULL, 0, TOKENS, x, IN, z_float, IN) == 0,
         "reflect_input");
  for (int i = 0; i < TOKENS * IN; ++i) z[i] = z_float[i];
  multiply(z, w, s);
  float swapped_bias[OUT];
  double swapped_expected[TOKENS * OUT];
  for (int i = 0; i < OUT; ++i) swapped_bias[i] = bias[order[i]];
  for (int i = 0; i < TOKENS * OUT; ++i) {
    s_float[i] = (float)s[i / OUT * OUT + order[i % OUT]];
    swapped_expected[i] = expected[i / OUT * OUT + order[i % OUT]] + x[0];
    y[i] = x[0]; /* the residual */
  }
  expect(etherlinear_reflect_output(rows, context, TOKENS, s_float, OUT, y, OUT, swapped_bias, y,
                                    OUT) == 0 &&
             near(y, swapped_expected, TOKENS * OUT),
         "reflect_output with bias and residual");

  /* The host's threads: more work than stays on the calling thread. */
  static float big_w[256 * 256], big_x[8 * 256], big_y[8 * 256], again[8 * 256], u[256];
  for (int i = 0; i < 256 * 256; ++i) big_w[i] = (float)(i % 7) - 3;
  for (int i = 0; i < 8 * 256; ++i) big_x[i] = (float)(i % 5) - 2;
  for (int i = 0; i < 256; ++i) u[i] = 1;
  const etherlinear_config plain = {
      ETHERLINEAR_ETHER, ETHERLINEAR_INPUT, ETHERLINEAR_DIAGONAL, 1, 1, 1};
  etherlinear_adapter* ones = NULL;
  etherlinear_layer* big = NULL;
  etherlinear_context* on_pool = NULL;
  expect(etherlinear_adapter_create(&plain, 256, 256, u, NULL, NULL, NULL, &ones) == 0, "ones");
  const etherlinear_part all = {ones, 0, NULL};
  expect(
      etherlinear_layer_create(ETHERLINEAR_FLOAT32, big_w, 256, 256, 256, &all, 1, NULL, &big) == 0,
      "a larger layer");
  expect(etherlinear_context_create_on(2, parallel_for, &calls, &on_pool) == 0,
         "a context on a pool");
  expect(etherlinear_forward(big, context, 8, big_x, 256, big_y, 256) == 0 &&
             etherlinear_forward(big, on_pool, 8, big_x, 256, again, 256) == 0 && calls > 0 &&
             memcmp(big_y, again, sizeof big_y) == 0,
         "the host's threads give the same bits");

  /* Errors: nothing is written, and the sentence names the numbers. */
  expect(
      etherlinear_forward(layer, context, TOKENS, x, IN - 1, y, OUT) == ETHERLINEAR_SHAPE_ERROR &&
          strstr(etherlinear_message(), "x has stride 3") != NULL,
      "too small a stride");
  expect(etherlinear_forward(rows, context, TOKENS, x, IN, y, OUT) == ETHERLINEAR_PARAMETER_ERROR &&
             strstr(etherlinear_message(), "without a weight") != NULL,
         "forward without a weight");
  expect(etherlinear_forward(NULL, context, TOKENS, x, IN, y, OUT) == ETHERLINEAR_PARAMETER_ERROR &&
             strstr(etherlinear_message(), "layer is NULL") != NULL,
         "no layer");
  etherlinear_adapter* none = NULL;
  expect(etherlinear_adapter_create(&config, OUT, IN, u_in, NULL, NULL, NULL, &none) ==
                 ETHERLINEAR_PARAMETER_ERROR &&
             none == NULL && strstr(etherlinear_message(), "output_u is NULL") != NULL,
         "a vector that is missing");
  etherlinear_config unknown = config;
  unknown.variant = (etherlinear_variant)7;
  expect(etherlinear_adapter_create(&unknown, OUT, IN, u_in, NULL, u_out, NULL, &none) ==
                 ETHERLINEAR_PARAMETER_ERROR &&
             strstr(etherlinear_message(), "variant is 7") != NULL,
         "an unknown variant");
  const float zeros[IN] = {0};
  expect(etherlinear_adapter_create(&config, OUT, IN, zeros, NULL, u_out, NULL, &none) ==
                 ETHERLINEAR_PARAMETER_ERROR &&
             strstr(etherlinear_message(), "input_u block 0 of 2 has length 0") != NULL,
         "a block of zeros");
  expect(etherlinear_layer_set_adapter(layer, 1, adapter) == ETHERLINEAR_PARAMETER_ERROR &&
             etherlinear_layer_set_adapter(layer, 0, adapter) == 0,
         "the part is checked");

  etherlinear_layer_free(layer);
  etherlinear_layer_free(rows);
  etherlinear_layer_free(big);
  etherlinear_layer_free(NULL);
  etherlinear_context_free(context);
  etherlinear_context_free(on_pool);
  etherlinear_adapter_free(adapter);
  etherlinear_adapter_free(ones);
  printf("etherlinear %s, %s: %d faults\n", etherlinear_version(), etherlinear_instructions(),
         faults);
  return faults;
}
