#include "gemm.h"

#include <cstdlib>

#include "gemm_tile.h"

namespace recarena {
namespace {

struct Float {
  static inline vec operand(const float* p) { return splat(*p); }
  static inline vec fma(vec sum, vec a, vec b) { return sum + a * b; }
};

// A pair of bfloat16 in every 32-bit lane: both products are added.
struct Pair {
#if defined(__AVX512BF16__) && defined(RECARENA_AVX512)
  static inline vec operand(const float* p) { return splat_pair(p); }
  static inline vec fma(vec sum, vec a, vec b) {
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
  }
#else
  static inline vec operand(const float* p) { return splat_pair(p); }
  static inline vec fma(vec sum, vec a, vec b) {
    const ivec x = (ivec)a, y = (ivec)b, high = splat_int((int32_t)0xFFFF0000);
    sum = sum + (vec)(x << 16) * (vec)(y << 16);
    return sum + (vec)(x & high) * (vec)(y & high);
  }
#endif
  static inline vec splat_pair(const float* p) {
    int32_t bits;
    std::memcpy(&bits, p, 4);
    return (vec)splat_int(bits);
  }
};

template <class Type, int R, int V>
void run(const Tile& t) {
  vec sum[R][V];
  sums_from_memory(t, sum);
  // Few rows are few independent sums: a second set over the odd steps hides the latency of the additions.
  constexpr int U = R * V <= 8 ? 2 : 1;
  vec odd[R][V] = {};
  const float *a = t.a, *b = t.b;
  long k = 0;
  for (; k + U <= t.steps; k += U) {
#pragma GCC unroll 2
    for (int u = 0; u < U; ++u) {
      vec weights[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) weights[v] = load(b + (k + u) * t.b_stride + v * LANES);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const vec x = Type::operand(a + r * t.a_stride + k + u);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          vec& s = u == 0 ? sum[r][v] : odd[r][v];
          s = Type::fma(s, x, weights[v]);
        }
      }
    }
  }
  if (U == 2) {
    for (; k < t.steps; ++k)
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v)
          sum[r][v] = Type::fma(sum[r][v], Type::operand(a + r * t.a_stride + k), load(b + k * t.b_stride + v * LANES));
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) sum[r][v] = sum[r][v] + odd[r][v];
  }
  sums_to_memory(t, sum);
}

template <int R, int V>
struct Floats {
  static void tile(const Tile& t) { run<Float, R, V>(t); }
};

template <int R, int V>
struct Pairs {
  static void tile(const Tile& t) { run<Pair, R, V>(t); }
};

}  // namespace

Packed make_packed(long outputs, long inputs, Precision precision) {
  Packed w;
  w.inputs = inputs, w.outputs = outputs, w.precision = precision;
  const long per_step = precision == INT8 ? 4 : precision == BF16 ? 2 : 1;
  w.steps = (inputs + per_step - 1) / per_step;
  w.padded = round_up(outputs, LANES);
  w.panels = (w.padded / LANES + TILE_VECTORS - 1) / TILE_VECTORS;
  const long bytes = round_up(w.padded * w.steps * 4 + 64, 64);
  w.data = static_cast<float*>(std::aligned_alloc(64, bytes));
  std::memset(w.data, 0, bytes);
  return w;
}

void turn_strip(const float* from, long row_stride, long outputs, long steps, long columns, float* to) {
  for (long j = 0; j < columns; j += LANES)
    for (long k = 0; k < steps; k += LANES) {
      const long count = steps - k < LANES ? steps - k : LANES;
      vec square[LANES];
#pragma GCC unroll 16
      for (long i = 0; i < LANES; ++i)
        square[i] = j + i < outputs ? load_first(from + (j + i) * row_stride + k, count) : vec{};
      transpose_square(square);
      for (long l = 0; l < count; ++l) store(to + (k + l) * columns + j, square[l]);
    }
}

void copy_strip(const float* from, long row_stride, long outputs, long steps, long columns, float* to) {
  for (long k = 0; k < steps; ++k, from += row_stride, to += columns) {
    long j = 0;
    for (; j + LANES <= outputs; j += LANES) store(to + j, load(from + j));
    if (j < columns) store(to + j, load_first(from + j, outputs - j));
  }
}

void pack(Packed& w, const float* from, long row_stride) {
  for (long p = 0; p < w.panels; ++p) {
    const long columns = w.width(p) * LANES, base = w.first(p) * LANES;
    float* to = w.panel(p);
    if (w.precision == FP32) {
      turn_strip(from + base * row_stride, row_stride, w.outputs - base, w.steps, columns, to);
      continue;
    }
    for (long j = 0; j < columns && base + j < w.outputs; ++j) {
      float row[2];
      const float* source = from + (base + j) * row_stride;
      for (long k = 0; k < w.steps; ++k) {
        if (w.precision == BF16) {
          row[0] = source[2 * k], row[1] = 2 * k + 1 < w.inputs ? source[2 * k + 1] : 0.0f;
          prepare(BF16, row, 2, to + k * columns + j);
        } else {
          vec value = splat(source[k]);
          to[k * columns + j] = w.precision == TF32 ? round_tf32(value)[0] : value[0];
        }
      }
    }
  }
}

void release(Packed& w) { std::free(w.data); }

void prepare(Precision precision, const float* row, long inputs, float* operands) {
  long k = 0;
  if (precision == BF16) {
    uint16_t* out = reinterpret_cast<uint16_t*>(operands);
#if defined(__AVX512BF16__) && defined(RECARENA_AVX512)
    for (; k + 16 <= inputs; k += 16) {
      const __m256bh half = _mm512_cvtneps_pbh((__m512)load(row + k));
      std::memcpy(out + k, &half, 32);
    }
#endif
#if defined(__AVX512BF16__) && defined(RECARENA_AVX512)
    if (const long rest = inputs - k; rest > 0) {
      const __m256i half = (__m256i)_mm512_cvtneps_pbh((__m512)load_first(row + k, rest));
      _mm256_mask_storeu_epi16(out + k, (__mmask16)((1u << round_up(rest, 2)) - 1), half);
    }
    return;
#endif
    for (; k + LANES <= inputs; k += LANES) store_bf16(out + k, load(row + k));
    for (; k < inputs; ++k) out[k] = to_bf16(row[k]);
    if (inputs % 2) out[inputs] = 0;
  } else if (precision == TF32) {
    for (; k + LANES <= inputs; k += LANES) store(operands + k, round_tf32(load(row + k)));
    if (k < inputs) store_first(operands + k, round_tf32(load_first(row + k, inputs - k)), inputs - k);
  } else {
    std::memcpy(operands, row, inputs * sizeof(float));
  }
}

void multiply_strip(Precision precision, const float* b, long b_stride, long vectors, long last, long steps,
                    const Product& x) {
  Tile t{x.a, b, x.start, x.c, x.a_stride, b_stride, steps, x.start_stride, x.c_stride, last};
  if (precision == BF16 && x.rows >= LEAST_ROWS_FOR_TILES && has_tiles()) return multiply_tiles(t, x.rows, vectors);
  // Rows in even shares: 7 are 4 and 3, not 6 and 1.
  const long blocks = (x.rows + ROWS - 1) / ROWS;
  for (long block = 0; block < blocks; ++block) {
    const long row = block * x.rows / blocks, rows = (block + 1) * x.rows / blocks - row;
    t.a = x.a + row * x.a_stride, t.start = x.start + row * x.start_stride, t.c = x.c + row * x.c_stride;
    if (precision != BF16)
      kernel<Floats>(rows, vectors)(t);
    else if (rows >= LEAST_ROWS_TO_WIDEN && widen_pairs())
      multiply_widened(t, rows, vectors);
    else
      kernel<Pairs>(rows, vectors)(t);
  }
}

void multiply_panel(const Packed& w, long panel, const Product& x) {
  const long width = w.width(panel), column = w.first(panel) * LANES;
  const long real = w.outputs - column - (width - 1) * LANES;
  Product part = x;
  part.start += column, part.c += column;
  multiply_strip(w.precision, w.panel(panel), width * LANES, width, x.exact && real < LANES ? real : LANES, w.steps,
                 part);
}

void multiply(const Packed& w, const Product& product) {
  for (long panel = 0; panel < w.panels; ++panel) multiply_panel(w, panel, product);
}

}  // namespace recarena
