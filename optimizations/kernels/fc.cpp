// Fully connected layer: MatMul + bias + activation in one pass over packed weights.
//
// One path for all shapes: against oneDNN's linear with prepacked weights and a fused activation (AVX512, one thread;
// 1, 10, 32 and 100 rows; 13 x 512 to 2189 x 1024) this kernel was faster at every one, in fp32 and in bf16.
#include "activation.h"
#include "gemm.h"
#include "pool.h"

using namespace recarena;

namespace {

// Rows that share one pass over a panel of weights. The inputs are not cut into blocks: measured from 13 x 512 to
// 2189 x 1024 that never helped, since a panel streams well from the outer caches.
constexpr long ROWS_PER_TILE = 96;

struct FullyConnected {
  Packed weights;
  std::vector<float> bias;
  Activation activation;
};

void run_tile(const FullyConnected& fc, const Product& all, long panel, long row, long rows) {
  const Packed& w = fc.weights;
  Product part = all;
  part.a += row * all.a_stride, part.c += row * all.c_stride, part.rows = rows;
  multiply_panel(w, panel, part);
  const long first = w.first(panel) * LANES, end = first + w.width(panel) * LANES;
  fc.activation.apply(part.c, part.c_stride, rows, first, end < w.outputs ? end : w.outputs);
}

}  // namespace

extern "C" {

// weight [outputs, inputs], bias [outputs]; slope, scale, shift [outputs] or null (see Activation).
void* recarena_fc_new(const float* weight, const float* bias, long inputs, long outputs, int kind, const float* slope,
                      const float* scale, const float* shift, int precision) {
  auto* fc = new FullyConnected{make_packed(outputs, inputs, (Precision)precision),
                                {},
                                Activation((Kind)kind, outputs, slope, scale, shift)};
  pack(fc->weights, weight, inputs);
  fc->bias.assign(fc->weights.padded, 0.0f);
  std::copy(bias, bias + outputs, fc->bias.begin());
  return fc;
}

void recarena_fc_free(void* handle) {
  auto* fc = static_cast<FullyConnected*>(handle);
  release(fc->weights);
  delete fc;
}

// x [rows, inputs] to out [rows, outputs].
void recarena_fc_run(const void* handle, const float* x, long rows, float* out, int threads) {
  const auto& fc = *static_cast<const FullyConnected*>(handle);
  const Packed& w = fc.weights;
  Product all{x, w.inputs, rows, fc.bias.data(), 0, out, w.outputs, true};
  if (w.precision != FP32) {
    float* operands = scratch(0, rows * w.steps);
    for (long r = 0; r < rows; ++r) prepare(w.precision, x + r * w.inputs, w.inputs, operands + r * w.steps);
    all.a = operands, all.a_stride = w.steps;
  }
  const long groups = (rows + ROWS_PER_TILE - 1) / ROWS_PER_TILE;
  parallel(groups * w.panels, worthwhile(threads, (double)rows * w.inputs * w.outputs / LANES), [&](long tile) {
    const long group = tile / w.panels, row = group * rows / groups;
    run_tile(fc, all, tile % w.panels, row, (group + 1) * rows / groups - row);
  });
}

}  // extern "C"
