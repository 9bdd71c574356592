// One vector of floats in the machine's natural width, and the elementary functions of the kernels.
// GCC and Clang vector extensions: the same source gives AVX512 (16 lanes), AVX2 (8) and NEON or SSE (4).
// Intrinsics only where the extensions have no word for an instruction, each with its portable twin.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace recarena {

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && defined(__AVX512BW__)
#define RECARENA_AVX512 1
constexpr long LANES = 16;
#elif defined(__AVX2__) && defined(__FMA__)
#define RECARENA_AVX2 1
constexpr long LANES = 8;
#else
constexpr long LANES = 4;
#endif

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));
typedef float vec_unaligned __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

inline vec load(const float* p) { return *reinterpret_cast<const vec_unaligned*>(p); }
inline void store(float* p, vec v) { *reinterpret_cast<vec_unaligned*>(p) = v; }
inline vec splat(float x) { return x - vec{}; }
inline ivec splat_int(int32_t x) { return x - ivec{}; }
inline vec select(ivec mask, vec yes, vec no) { return mask ? yes : no; }

// A NaN in the second argument is kept.
#if RECARENA_AVX512
inline vec max(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }
inline vec min(vec a, vec b) { return (vec)_mm512_min_ps((__m512)a, (__m512)b); }
#elif RECARENA_AVX2
inline vec max(vec a, vec b) { return (vec)_mm256_max_ps((__m256)a, (__m256)b); }
inline vec min(vec a, vec b) { return (vec)_mm256_min_ps((__m256)a, (__m256)b); }
#else
inline vec max(vec a, vec b) { return a > b ? a : b; }
inline vec min(vec a, vec b) { return a < b ? a : b; }
#endif

// The first n lanes (0 <= n <= LANES) of memory that may end there; the others are 0.
inline vec load_first(const float* p, long n) {
#if RECARENA_AVX512
  return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif RECARENA_AVX2
  alignas(32) static const int32_t ones_then_zeros[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return (vec)_mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i*)(ones_then_zeros + 8 - n)));
#else
  vec v{};
  for (long i = 0; i < n; ++i) v[i] = p[i];
  return v;
#endif
}

inline void store_first(float* p, vec v, long n) {
#if RECARENA_AVX512
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#elif RECARENA_AVX2
  // Not vmaskmovps: some processors take it apart into forty operations.
  if (n >= 8) return _mm256_storeu_ps(p, (__m256)v);
  __m128 rest = _mm256_castps256_ps128((__m256)v);
  if (n & 4) {
    _mm_storeu_ps(p, rest);
    rest = _mm256_extractf128_ps((__m256)v, 1), p += 4;
  }
  if (n & 2) {
    _mm_storel_pi((__m64*)p, rest);
    rest = _mm_movehl_ps(rest, rest), p += 2;
  }
  if (n & 1) _mm_store_ss(p, rest);
#else
  for (long i = 0; i < n; ++i) p[i] = v[i];
#endif
}

// The first n lanes (0 <= n <= LANES) of x; the others are 0.
inline vec first_lanes(vec x, long n) {
#if RECARENA_AVX512
  return (vec)_mm512_maskz_mov_ps((__mmask16)((1u << n) - 1), (__m512)x);
#else
  float part[LANES];
  store(part, x);
  return load_first(part, n);
#endif
}

// The first half of the lanes of a and b in turn, and the second half.
#if defined(__clang__)
#define RECARENA_SHUFFLE(a, b, mask, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define RECARENA_SHUFFLE(a, b, mask, ...) __builtin_shuffle(a, b, mask{__VA_ARGS__})
#endif
inline vec interleave_low(vec a, vec b) {
#if RECARENA_AVX512
  return RECARENA_SHUFFLE(a, b, ivec, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif RECARENA_AVX2
  return RECARENA_SHUFFLE(a, b, ivec, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return RECARENA_SHUFFLE(a, b, ivec, 0, 4, 1, 5);
#endif
}
inline vec interleave_high(vec a, vec b) {
#if RECARENA_AVX512
  return RECARENA_SHUFFLE(a, b, ivec, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif RECARENA_AVX2
  return RECARENA_SHUFFLE(a, b, ivec, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return RECARENA_SHUFFLE(a, b, ivec, 2, 6, 3, 7);
#endif
}

// Rows become columns: a perfect shuffle of the rows, once per binary digit of LANES.
inline void transpose_square(vec (&rows)[LANES]) {
#pragma GCC unroll 4
  for (long stage = 1; stage < LANES; stage *= 2) {
    vec next[LANES];
#pragma GCC unroll 8
    for (long i = 0; i < LANES / 2; ++i) {
      next[2 * i] = interleave_low(rows[i], rows[i + LANES / 2]);
      next[2 * i + 1] = interleave_high(rows[i], rows[i + LANES / 2]);
    }
#pragma GCC unroll 16
    for (long i = 0; i < LANES; ++i) rows[i] = next[i];
  }
}

inline float sum(vec v) {
#if RECARENA_AVX512
  return _mm512_reduce_add_ps((__m512)v);
#else
  float part[LANES];
  store(part, v);
  for (long half = LANES / 2; half > 0; half /= 2)
    for (long i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
#endif
}

// Correctly rounded.
inline vec square_root(vec x) {
#if RECARENA_AVX512
  return (vec)_mm512_sqrt_ps((__m512)x);
#elif RECARENA_AVX2
  return (vec)_mm256_sqrt_ps((__m256)x);
#else
  vec y;
  for (long i = 0; i < LANES; ++i) y[i] = __builtin_sqrtf(x[i]);
  return y;
#endif
}

// 1 / x for 2^-100 < |x| < 2^100, to within 2 units in the last place.
inline vec reciprocal(vec x) {
#if RECARENA_AVX512
  vec y = (vec)_mm512_rcp14_ps((__m512)x);
  return y + y * (1.0f - x * y);
#else
  return 1.0f / x;
#endif
}

// e^x - 1 and 2^n of the split e^x = 2^n (1 + q), |r| <= ln(2) / 2. The polynomial of (e^r - 1 - r) / r^2 is a
// Chebyshev fit of degree 4; the relative error of q is 2.6e-8 before rounding.
struct ExpParts {
  vec q, scale;
};

inline ExpParts exp_parts(vec x) {
  const float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const vec t = x * 1.44269504088896341f + round;
  const vec n = t - round;
  vec r = x - n * 0.693145751953125f;  // ln(2) in two parts (Cody and Waite)
  r = r - n * 1.42860682030941723e-6f;
  vec p = r * 0.0013934545f + 0.008363777f;
  p = p * r + 0.041666456f;
  p = p * r + 0.16666573f;
  p = p * r + 0.5f;
  const vec q = r * r * p + r;
#if RECARENA_AVX512
  return {q, (vec)_mm512_scalef_ps(_mm512_set1_ps(1.0f), (__m512)n)};
#else
  const ivec bits = ((ivec)t - splat_int(0x4B400000) + 127) << 23;
  return {q, (vec)bits};
#endif
}

// Arguments are cut to [-80, 80], where every result is a normal number.
inline vec exp(vec x) {
  const ExpParts e = exp_parts(max(splat(-80.0f), min(splat(80.0f), x)));
  return e.scale * e.q + e.scale;
}

// 1 / (1 + 2^t), the one expensive piece of a gate. Absolute error below 1.2e-7, relative
// error below 1e-6 for |t| < 11: the rounding of t is what remains of it.
inline vec logistic2(vec t) {
#if RECARENA_AVX512
  const vec low = min(splat(120.0f), t);
  const vec f = (vec)_mm512_reduce_ps((__m512)low, _MM_FROUND_TO_NEG_INF);  // t - floor(t); the scale takes the floor
  vec p = f * 0.0018671829f + 0.009016688f;  // 2^f on [0, 1): a fit of degree 5, 8.4e-8
  p = p * f + 0.055800445f;
  p = p * f + 0.24016416f;
  p = p * f + 0.69315135f;
  p = p * f + 1.0f;
  return reciprocal(1.0f + (vec)_mm512_scalef_ps((__m512)p, (__m512)low));
#else
  const float round = 12582912.0f;
  const vec inside = max(splat(-126.0f), min(splat(126.0f), t)), shifted = inside + round;
  const vec f = inside - (shifted - round);
  vec p = f * 0.00132765f + 0.00967554f;  // 2^f on [-1/2, 1/2]: a fit of degree 5, 7.5e-8
  p = p * f + 0.05550713f;
  p = p * f + 0.2402212f;
  p = p * f + 0.69314694f;
  p = p * f + 1.0000001f;
  const ivec bits = ((ivec)shifted - splat_int(0x4B400000) + 127) << 23;
  return reciprocal(1.0f + (vec)bits * p);
#endif
}

constexpr float LOG2_E = 1.44269504088896341f;

inline vec sigmoid(vec x) { return logistic2(x * -LOG2_E); }

inline vec tanh(vec x) { return 1.0f - 2.0f * logistic2(x * (2.0f * LOG2_E)); }

// Natural logarithm of normal x > 0: x = 2^n m with m in [sqrt(1/2), sqrt(2)); log(m) = 2 artanh((m - 1) / (m + 1)).
inline vec log(vec x) {
  const ivec bits = (ivec)x - splat_int(0x3F3504F3);
  const vec n = __builtin_convertvector(bits >> 23, vec);
  const vec m = (vec)((bits & 0x007FFFFF) + splat_int(0x3F3504F3));
  const vec s = (m - 1.0f) / (m + 1.0f), z = s * s;
  vec p = z * (2.0f / 9.0f) + 2.0f / 7.0f;
  p = p * z + 2.0f / 5.0f;
  p = p * z + 2.0f / 3.0f;
  p = p * z * s + 2.0f * s;
  return n * 0.693145751953125f + (p + n * 1.42860682030941723e-6f);
}

// log(1 + x) for finite 0 <= x: the rounding of 1 + x is put right in first order.
inline vec log1p(vec x) {
  const vec u = 1.0f + x;
  return log(u) + (x - (u - 1.0f)) / u;
}

// 10 mantissa bits, nearest even: what TensorFloat-32 reads of an operand.
inline vec round_tf32(vec x) {
  const ivec bits = (ivec)x;
  return (vec)((bits + 0x0FFF + ((bits >> 13) & 1)) & ~0x1FFF);
}

// Lanes as pairs of bfloat16, nearest even: a in the low half, b in the high half.
inline vec pair_bf16(vec a, vec b) {
  const ivec x = (ivec)a, y = (ivec)b, low = splat_int(0x0000FFFF);
  const ivec first = ((x + 0x7FFF + ((x >> 16) & 1)) >> 16) & low;
  return (vec)(first | ((y + 0x7FFF + ((y >> 16) & 1)) & ~low));
}

inline uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// One vector as bfloat16, nearest even.
inline void store_bf16(uint16_t* p, vec v) {
  typedef uint16_t halves __attribute__((vector_size(LANES * 2)));
  const ivec x = (ivec)v;
  const halves rounded = __builtin_convertvector((x + 0x7FFF + ((x >> 16) & 1)) >> 16, halves);
  std::memcpy(p, &rounded, sizeof rounded);
}

inline float from_bf16(uint16_t x) {
  const uint32_t bits = (uint32_t)x << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

}  // namespace recarena
