// A linear layer on rows that are picked out of a padded history, in training: y = x[index] W^T + b, and its way back.
//
// A tile of rows is gathered into the cache, multiplied there, and on the way back its gradients are put to their places.
#include <algorithm>

#include "pool.h"
#include "subnormals.h"
#include "trained_layer.h"

using namespace recarena;

// Row r of `rows` is row index[r] of x [.., inputs]; none is picked twice. weight [outputs, inputs], bias [outputs].
struct RecarenaPackedLinear {
  const float* x;
  const int64_t* index;
  int64_t rows;
  RecarenaDense layer;
};

namespace {

constexpr long TILE = 48;

using Call = RecarenaPackedLinear;

void gather(const Call& call, long first, long rows, long padded, float* to) {
  for (long r = 0; r < rows; ++r)
    copy_padded(call.x + call.index[first + r] * call.layer.inputs, call.layer.inputs, to + r * padded);
}

// body(part, first row, rows) for all tiles; a part's tiles one after another.
template <class F>
void over_tiles(const Call& call, long parts, int threads, const F& body) {
  parallel(parts, threads, [&](long part) {
    const WithoutSubnormals guard;
    (void)guard;
    const long end = (part + 1) * call.rows / parts;
    for (long first = part * call.rows / parts; first < end; first += TILE)
      body(part, first, std::min(TILE, end - first));
  });
}

long parts_of(const Call& call, int threads) {
  const double work = (double)call.rows * call.layer.outputs * call.layer.inputs / LANES;
  return std::max<long>(1, std::min<long>(parts_for(threads, 2 * work), (call.rows + TILE - 1) / TILE));
}

}  // namespace

extern "C" {

// y [rows, outputs].
void recarena_packed_linear(const RecarenaPackedLinear* given, float* y, int threads) {
  const Call& call = *given;
  const RecarenaDense& l = call.layer;
  const TrainedWeights weights(l.weight, l.outputs, l.inputs, l.inputs, l.bias);
  const long padded = weights.padded_inputs();
  over_tiles(call, parts_of(call, threads), threads, [&](long, long first, long rows) {
    float* x = scratch(1, TILE * padded);
    gather(call, first, rows, padded, x);
    weights.forward(x, padded, rows, y + first * l.outputs, l.outputs, true);
  });
}

// From dy [rows, outputs]: the picked rows of dx, unless it is null, dweight [outputs, inputs], dbias [outputs].
void recarena_packed_linear_back(const RecarenaPackedLinear* given, const float* dy, float* dx, float* dweight,
                                 float* dbias, int threads) {
  const Call& call = *given;
  const RecarenaDense& l = call.layer;
  const TrainedWeights weights(l.weight, l.outputs, l.inputs, l.inputs, l.bias);
  const long padded = weights.padded_inputs(), wide = weights.padded_outputs(), parts = parts_of(call, threads);
  const long floats = l.outputs * padded + wide;
  std::vector<float> sums(parts * floats, 0.0f);
  over_tiles(call, parts, threads, [&](long part, long first, long rows) {
    float *x = scratch(1, 2 * TILE * padded), *back = x + TILE * padded, *own = &sums[part * floats];
    const float* slopes = dy + first * l.outputs;
    gather(call, first, rows, padded, x);
    add_outer(slopes, l.outputs, x, padded, rows, l.outputs, l.inputs, own, padded);
    add_rows(slopes, l.outputs, rows, l.outputs, own + l.outputs * padded);
    if (!dx) return;
    weights.backward(slopes, l.outputs, rows, back, padded);
    for (long r = 0; r < rows; ++r)
      std::memcpy(dx + call.index[first + r] * l.inputs, back + r * padded, l.inputs * sizeof(float));
  });
  for (long j = 0; j < l.outputs; ++j) {
    for (long k = 0; k <= l.inputs; ++k) {
      const long at = k < l.inputs ? j * padded + k : l.outputs * padded + j;
      float total = 0.0f;
      for (long part = 0; part < parts; ++part) total += sums[part * floats + at];
      (k < l.inputs ? dweight[j * l.inputs + k] : dbias[j]) = total;
    }
  }
}

}  // extern "C"
