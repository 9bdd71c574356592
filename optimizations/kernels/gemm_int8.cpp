#include "gemm_int8.h"

#include <algorithm>
#include <cmath>

namespace recarena {
namespace {

// Four products of bytes in every 32-bit lane, added. Without an instruction for it the bytes are taken in pairs as
// 16-bit numbers, whose products fit.
#if defined(RECARENA_AVX512) && defined(__AVX512VNNI__)
typedef ivec Quad;
inline Quad signed_quad(ivec w) { return w; }
inline Quad unsigned_quad(ivec x) { return x; }
inline ivec add_products(ivec sum, Quad x, Quad w) {
  return (ivec)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w);
}
#elif defined(RECARENA_AVX2) && defined(__AVXVNNI__)
typedef ivec Quad;
inline Quad signed_quad(ivec w) { return w; }
inline Quad unsigned_quad(ivec x) { return x; }
inline ivec add_products(ivec sum, Quad x, Quad w) {
  return (ivec)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)x, (__m256i)w);
}
#else
typedef int16_t halves __attribute__((vector_size(LANES * 4)));
struct Quad {
  halves even, odd;
};
inline Quad signed_quad(ivec w) { return {((halves)w << 8) >> 8, (halves)w >> 8}; }
inline Quad unsigned_quad(ivec x) { return {(halves)x & 0xFF, ((halves)x >> 8) & 0xFF}; }
inline ivec products(halves x, halves w) {
#if RECARENA_AVX512
  return (ivec)_mm512_madd_epi16((__m512i)x, (__m512i)w);
#elif RECARENA_AVX2
  return (ivec)_mm256_madd_epi16((__m256i)x, (__m256i)w);
#else
  const ivec a = (ivec)x, b = (ivec)w;
  return ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}
inline ivec add_products(ivec sum, const Quad& x, const Quad& w) {
  return sum + products(x.even, w.even) + products(x.odd, w.odd);
}
#endif

template <int R, int V>
struct Quads {
  static void tile(const Tile& tile) {
    const QuantizedTile& t = static_cast<const QuantizedTile&>(tile);
    ivec sum[R][V] = {};
    for (long k = 0; k < t.steps; ++k) {
      Quad weights[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) weights[v] = signed_quad((ivec)load(t.b + k * t.b_stride + v * LANES));
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        int32_t bits;
        std::memcpy(&bits, t.a + r * t.a_stride + k, 4);
        const Quad x = unsigned_quad(splat_int(bits));
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) sum[r][v] = add_products(sum[r][v], x, weights[v]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) dequantize(t, r, v, V, sum[r][v]);
  }
};

float smallest(vec x) {
  float least = x[0];
  for (long i = 1; i < LANES; ++i) least = std::min(least, x[i]);
  return least;
}

bool any(ivec mask) {
  int32_t found = 0;
  for (long i = 0; i < LANES; ++i) found |= mask[i];
  return found != 0;
}

}  // namespace

Quantization pack_int8(Packed& packed, const int8_t* w, const float* scale, const float* inverse) {
  const long inputs = packed.inputs, outputs = packed.outputs;
  Quantization q;
  q.inverse.assign(inverse, inverse + inputs);
  q.scale.assign(packed.padded, 0.0f), q.sum.assign(packed.padded, 0.0f);
  std::copy(scale, scale + outputs, q.scale.begin());
  for (long p = 0; p < packed.panels; ++p) {
    const long columns = packed.width(p) * LANES, base = packed.first(p) * LANES;
    int8_t* to = reinterpret_cast<int8_t*>(packed.panel(p));
    for (long j = 0; j < columns && base + j < outputs; ++j) {
      long total = 0;
      for (long k = 0; k < inputs; ++k) {
        const int8_t value = w[(base + j) * inputs + k];
        to[4 * (k / 4 * columns + j) + k % 4] = value;
        total += value;
      }
      q.sum[base + j] = scale[base + j] * (float)total;
    }
  }
  return q;
}

Range quantize(const Quantization& q, const float* row, long inputs, float* operands) {
  typedef uint8_t bytes __attribute__((vector_size(LANES)));
  const float* inverse = q.inverse.data();
  // A row's own first value fills the lanes past its end: it moves neither bound.
  const vec first = splat(row[0] * inverse[0]);
  vec low = first, negative_high = -first;
  ivec unordered{};
  const auto scaled = [&](long k) {
    if (k + LANES <= inputs) return load(row + k) * load(inverse + k);
    const vec part = load_first(row + k, inputs - k) * load_first(inverse + k, inputs - k);
    float lanes[LANES];
    store(lanes, part);
    for (long i = inputs - k; i < LANES; ++i) lanes[i] = first[0];
    return load(lanes);
  };
  for (long k = 0; k < inputs; k += LANES) {
    const vec x = scaled(k);
    low = min(low, x), negative_high = min(negative_high, -x);
    unordered |= x != x;  // a bound forgets a NaN at the next vector
  }
  const float least = smallest(low), width = -smallest(negative_high) - least;
  const float per_step = width > 1e-30f ? 255.0f / width : 0.0f;
  uint8_t* to = reinterpret_cast<uint8_t*>(operands);
  for (long k = 0; k < inputs; k += LANES) {
    const ivec rounded = __builtin_convertvector((scaled(k) - least) * per_step + 0.5f, ivec);
    const bytes narrow = __builtin_convertvector(rounded & 0xFF, bytes);
    std::memcpy(to + k, &narrow, std::min(LANES, (inputs + 3) / 4 * 4 - k));
  }
  // No byte stands for a NaN: by its step the row has none but such outputs.
  return {any(unordered) ? NAN : width / 255.0f, least};
}

void multiply_panel(const Packed& w, const Quantization& q, long panel, const Product& x, const Range* ranges) {
  const long vectors = w.width(panel), column = w.first(panel) * LANES;
  const long real = w.outputs - column - (vectors - 1) * LANES;
  QuantizedTile t;
  static_cast<Tile&>(t) = {x.a, w.panel(panel), x.start + column, x.c + column, x.a_stride, vectors * LANES,
                           w.steps, x.start_stride, x.c_stride, x.exact && real < LANES ? real : LANES};
  t.scale = &q.scale[column], t.sum = &q.sum[column], t.ranges = ranges;
  if (x.rows >= LEAST_ROWS_FOR_TILES && has_tiles()) return multiply_byte_tiles(t, x.rows, vectors);
  const long blocks = (x.rows + ROWS - 1) / ROWS;
  for (long block = 0; block < blocks; ++block) {
    const long row = block * x.rows / blocks, rows = (block + 1) * x.rows / blocks - row;
    t.a = x.a + row * x.a_stride, t.start = x.start + column + row * x.start_stride;
    t.c = x.c + column + row * x.c_stride, t.ranges = ranges + row;
    kernel<Quads>(rows, vectors)(t);
  }
}

}  // namespace recarena
