#include "trained_layer.h"

#include <algorithm>

#include "gemm_tile.h"
#include "pool.h"
#include "unit_vectors.h"

namespace recarena {
namespace {

// Cut: of the last vector only `last` lanes may be read.
template <int R, int V, bool Cut>
inline void sum_products(const Tile& t) {
  vec sum[R][V];
  sums_from_memory(t, sum);
  const float *a = t.a, *b = t.b;
  for (long k = t.steps; k > 0; --k, a += t.a_stride, b += t.b_stride) {
    vec x[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) x[v] = Cut && v == V - 1 ? load_first(b + v * LANES, t.last) : load(b + v * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const vec y = splat(a[r]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = sum[r][v] + y * x[v];
    }
  }
  sums_to_memory(t, sum);
}

template <int R, int V>
struct Outer {
  static void tile(const Tile& t) { sum_products<R, V, false>(t); }
};

template <int R, int V>
struct CutOuter {
  static void tile(const Tile& t) { sum_products<R, V, true>(t); }
};

Packed packed_weights(const float* w, long outputs, long inputs, long row_stride) {
  Packed packed = make_packed(outputs, inputs, FP32);
  pack(packed, w, row_stride);
  return packed;
}

// Their columns as outputs: they lie side by side already.
Packed turned_weights(const float* w, long outputs, long inputs, long row_stride) {
  Packed packed = make_packed(inputs, outputs, FP32);
  for (long p = 0; p < packed.panels; ++p) {
    const long columns = packed.width(p) * LANES, base = packed.first(p) * LANES;
    copy_strip(w + base, row_stride, std::min(columns, inputs - base), outputs, columns, packed.panel(p));
  }
  return packed;
}

}  // namespace

void sum_outer(const Tile& tile, long rows, long vectors) {
  tile.last < LANES ? kernel<CutOuter>(rows, vectors)(tile) : kernel<Outer>(rows, vectors)(tile);
}

TrainedWeights::TrainedWeights(const float* w, long outputs, long inputs, long row_stride, const float* bias)
    : forward_(packed_weights(w, outputs, inputs, row_stride)),
      backward_(turned_weights(w, outputs, inputs, row_stride)),
      bias_(forward_.padded, 0.0f),
      zeros_(backward_.padded, 0.0f) {
  if (bias) std::copy_n(bias, outputs, bias_.begin());
}

TrainedWeights::TrainedWeights(TrainedWeights&& other) noexcept
    : forward_(other.forward_),
      backward_(other.backward_),
      bias_(std::move(other.bias_)),
      zeros_(std::move(other.zeros_)) {
  other.forward_.data = other.backward_.data = nullptr;
}

TrainedWeights::~TrainedWeights() { release(forward_), release(backward_); }

void TrainedWeights::forward(const float* x, long x_stride, long rows, float* y, long y_stride,
                             bool exact) const {
  multiply(forward_, {x, x_stride, rows, bias_.data(), 0, y, y_stride, exact});
}

void TrainedWeights::forward(const float* x, long x_stride, long rows, const float* start, long start_stride, float* y,
                             long y_stride) const {
  multiply(forward_, {x, x_stride, rows, start, start_stride, y, y_stride, false});
}

void TrainedWeights::backward(const float* dy, long dy_stride, long rows, float* dx, long dx_stride,
                              bool exact) const {
  multiply(backward_, {dy, dy_stride, rows, zeros_.data(), 0, dx, dx_stride, exact});
}

void add_outer(const float* a, long a_stride, const float* b, long b_stride, long rows, long outputs, long inputs,
               float* sums, long sums_stride, bool exact) {
  const long vectors = (inputs + LANES - 1) / LANES, panels = (vectors + TILE_VECTORS - 1) / TILE_VECTORS;
  const long blocks = (outputs + ROWS - 1) / ROWS;
  for (long panel = 0; panel < panels; ++panel) {
    const long first = panel * vectors / panels, width = (panel + 1) * vectors / panels - first;
    const long real = inputs - (first + width - 1) * LANES;
    for (long block = 0; block < blocks; ++block) {
      const long row = block * outputs / blocks, count = (block + 1) * outputs / blocks - row;
      float* to = sums + row * sums_stride + first * LANES;
      const long last = exact && real < LANES ? real : LANES;
      const Tile tile{a + row,  b + first * LANES, to, to, a_stride, b_stride, rows, sums_stride, sums_stride, last};
      sum_outer(tile, count, width);
    }
  }
}

void add_rows(const float* a, long stride, long rows, long columns, float* sums) {
  over_units(columns, [&](auto vectors, long j) {
    constexpr int V = vectors();
    const long last = std::min(LANES, columns - j - (V - 1) * LANES);
    vec total[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) total[v] = load(sums + j + v * LANES);
    for (long r = 0; r < rows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) total[v] = total[v] + take<V>(a + r * stride + j, v, last);
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(sums + j + v * LANES, total[v]);
  });
}

void sigmoid_rows(float* x, long floats) {
  long k = 0;
  for (; k + 4 * LANES <= floats; k += 4 * LANES) {
    vec y[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) y[v] = sigmoid(load(x + k + v * LANES));
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) store(x + k + v * LANES, y[v]);
  }
  for (; k < floats; k += LANES) store(x + k, sigmoid(load(x + k)));
}

void sigmoid_back(float* d, const float* y, long floats) {
  for (long k = 0; k < floats; k += LANES) {
    const vec at = load(y + k);
    store(d + k, load(d + k) * at * (1.0f - at));
  }
}

}  // namespace recarena

extern "C" {

// Floats of a vector: rows of whole vectors are multiples of it.
long recarena_lanes() { return recarena::LANES; }

}  // extern "C"
