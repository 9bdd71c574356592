// Fully connected layer: MatMul + bias + activation in one pass over packed weights.
//
// One path for all shapes: against oneDNN's linear with prepacked weights and a fused activation (AVX512, one thread;
// 1, 10, 32 and 100 rows; 13 x 512 to 2189 x 1024) this kernel was faster at every one, in fp32 and in bf16.
#include "activation.h"
#include "gemm_int8.h"
#include "pool.h"

using namespace recarena;

namespace {

// Rows that share one pass over a panel of weights. The inputs are not cut into blocks: measured from 13 x 512 to
// 2189 x 1024 that never helped, since a panel streams well from the outer caches.
constexpr long ROWS_PER_TILE = 128;

struct FullyConnected {
  Packed weights;
  std::vector<float> bias;
  Activation activation;
  Quantization quantization;  // INT8 only
};

void run_tile(const FullyConnected& fc, const Product& all, const Range* ranges, long panel, long row, long rows) {
  const Packed& w = fc.weights;
  Product part = all;
  part.a += row * all.a_stride, part.c += row * all.c_stride, part.rows = rows;
  part.start += row * all.start_stride;
  if (w.precision == INT8)
    multiply_panel(w, fc.quantization, panel, part, ranges + row);
  else
    multiply_panel(w, panel, part);
  const long first = w.first(panel) * LANES, end = first + w.width(panel) * LANES;
  fc.activation.apply(part.c, part.c_stride, rows, first, end < w.outputs ? end : w.outputs);
}

// weight [outputs, inputs], of floats; for INT8 of the integers that `quantizer` scales.
struct Quantizer {
  const float *scale, *inverse;  // [outputs], [inputs]
};

FullyConnected make(const void* weight, const Quantizer& quantizer, const float* bias, long inputs, long outputs,
                    Activation activation, Precision precision) {
  FullyConnected fc{make_packed(outputs, inputs, precision), {}, std::move(activation), {}};
  if (precision == INT8)
    fc.quantization = pack_int8(fc.weights, static_cast<const int8_t*>(weight), quantizer.scale, quantizer.inverse);
  else
    pack(fc.weights, static_cast<const float*>(weight), inputs);
  fc.bias.assign(fc.weights.padded, 0.0f);
  std::copy(bias, bias + outputs, fc.bias.begin());
  return fc;
}

// out [rows, outputs] = activation(start + x W^T); `start` may be `out` itself.
void run(const FullyConnected& fc, const float* x, long rows, const float* start, long start_stride, float* out,
         int threads) {
  const Packed& w = fc.weights;
  Product all{x, w.inputs, rows, start, start_stride, out, w.outputs, true};
  Range* ranges = nullptr;
  if (w.precision != FP32) {
    float* operands = scratch(0, rows * (w.steps + (long)(sizeof(Range) / sizeof(float))));
    ranges = reinterpret_cast<Range*>(operands + rows * w.steps);
    for (long r = 0; r < rows; ++r) {
      const float* row = x + r * w.inputs;
      if (w.precision == INT8)
        ranges[r] = quantize(fc.quantization, row, w.inputs, operands + r * w.steps);
      else
        prepare(w.precision, row, w.inputs, operands + r * w.steps);
    }
    all.a = operands, all.a_stride = w.steps;
  }
  const long groups = (rows + ROWS_PER_TILE - 1) / ROWS_PER_TILE;
  // One row has to read all weights, which takes as long as multiplying a register tile of rows.
  const double work = (double)std::max(rows, ROWS) * w.inputs * w.outputs / LANES;
  parallel(groups * w.panels, worthwhile(threads, work), [&](long tile) {
    const long group = tile / w.panels, row = group * rows / groups;
    run_tile(fc, all, ranges, tile % w.panels, row, (group + 1) * rows / groups - row);
  });
}

// A first layer in two: the users' columns with the bias, the samples' columns with the activation.
struct Split {
  FullyConnected users, samples;
};

}  // namespace

extern "C" {

// weight [outputs, inputs] of floats, or for INT8 of int8 with its Quantizer; bias [outputs]; slope, scale, shift
// [outputs] or null (see Activation).
void* recarena_fc_new(const void* weight, const Quantizer* quantizer, const float* bias, long inputs, long outputs,
                      int kind, const float* slope, const float* scale, const float* shift, int precision) {
  return new FullyConnected(make(weight, *quantizer, bias, inputs, outputs,
                                 Activation((Kind)kind, outputs, slope, scale, shift), (Precision)precision));
}

void recarena_fc_free(void* handle) {
  auto* fc = static_cast<FullyConnected*>(handle);
  release(fc->weights);
  delete fc;
}

// x [rows, inputs] to out [rows, outputs].
void recarena_fc_run(const void* handle, const float* x, long rows, float* out, int threads) {
  const auto& fc = *static_cast<const FullyConnected*>(handle);
  run(fc, x, rows, fc.bias.data(), 0, out, threads);
}

// users [outputs, user_inputs] and samples [outputs, sample_inputs]: the columns of one layer's weight; quantizers:
// of both; else as above.
void* recarena_fc_split_new(const void* users, const void* samples, const Quantizer* quantizers, const float* bias,
                            long user_inputs, long sample_inputs, long outputs, int kind, const float* slope,
                            const float* scale, const float* shift, int precision) {
  const Precision p = (Precision)precision;
  const Activation none(NONE, outputs, nullptr, nullptr, nullptr), last((Kind)kind, outputs, slope, scale, shift);
  return new Split{make(users, quantizers[0], bias, user_inputs, outputs, none, p),
                   make(samples, quantizers[1], bias, sample_inputs, outputs, last, p)};
}

void recarena_fc_split_free(void* handle) {
  auto* split = static_cast<Split*>(handle);
  release(split->users.weights), release(split->samples.weights);
  delete split;
}

// user_x [users, user_inputs], x [rows, sample_inputs], user_of [rows] or null (users = rows) to out [rows, outputs].
void recarena_fc_split_run(const void* handle, const float* user_x, long users, const float* x, const int64_t* user_of,
                           long rows, float* out, int threads) {
  const auto& split = *static_cast<const Split*>(handle);
  const long outputs = split.samples.weights.outputs;
  const float* bias = split.users.bias.data();
  if (!user_of && users == rows) {
    run(split.users, user_x, users, bias, 0, out, threads);
    return run(split.samples, x, rows, out, outputs, out, threads);
  }
  float* parts = scratch(1, users * outputs);
  run(split.users, user_x, users, bias, 0, parts, threads);
  if (users == 1) return run(split.samples, x, rows, parts, 0, out, threads);
  for (long r = 0; r < rows; ++r) std::memcpy(out + r * outputs, parts + user_of[r] * outputs, outputs * sizeof(float));
  run(split.samples, x, rows, out, outputs, out, threads);
}

}  // extern "C"
