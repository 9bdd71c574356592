// Products in AMX tiles, two tiles of rows against two vectors of outputs at a time: four products for four loads, where
// one tile of rows alone needs five, and half of the weights' traffic, which comes from the outer caches.
#include "amx.h"

#if RECARENA_TILES

namespace recarena {
namespace {

// Sums of the first rows in tiles 0 and 1, of the second in 2 and 3; operands in 4 and 5, weights in 6 and 7.
void configure(long first, long second) {
  TileShapes shapes;
  shapes.set(0, first, SIDE), shapes.set(1, first, SIDE), shapes.set(4, first, SIDE);
  shapes.set(2, second, SIDE), shapes.set(3, second, SIDE), shapes.set(5, second, SIDE);
  shapes.set(6, SIDE, SIDE), shapes.set(7, SIDE, SIDE);
  shapes.load();
}

struct Operands {
  const float *first, *second, *b;
  long a_bytes, b_bytes, steps;
};

#define RECARENA_ADD(sums, rows, weights)  \
  if (Bytes) {                             \
    _tile_dpbusd(sums, rows, weights);     \
  } else {                                 \
    _tile_dpbf16ps(sums, rows, weights);   \
  }

// All whole tiles of steps. Both: two vectors of outputs, else one.
template <bool Bytes, bool Both>
inline void add_steps(const Operands& x) {
  const float *first = x.first, *second = x.second, *b = x.b;
  for (long k = 0; k + SIDE <= x.steps; k += SIDE, first += SIDE, second += SIDE, b += x.b_bytes / 4 * SIDE) {
    _tile_loadd(4, first, x.a_bytes);
    _tile_loadd(6, b, x.b_bytes);
    RECARENA_ADD(0, 4, 6)
    _tile_loadd(5, second, x.a_bytes);
    RECARENA_ADD(2, 5, 6)
    if (Both) {
      _tile_loadd(7, b + LANES, x.b_bytes);
      RECARENA_ADD(1, 4, 7)
      RECARENA_ADD(3, 5, 7)
    }
  }
}

// The last steps, which do not fill a tile, with zeros behind them.
struct Rest {
  alignas(64) float a[2 * SIDE * SIDE], b[SIDE * TILE_VECTORS * LANES];

  Rest(const Tile& t, long rows, long vectors) {
    const long steps = t.steps % SIDE, from = t.steps - steps;
    for (long r = 0; r < rows; ++r) store(a + r * SIDE, load_first(t.a + r * t.a_stride + from, steps));
    for (long k = 0; k < SIDE; ++k)
      for (long v = 0; v < vectors; ++v)
        store(b + (k * TILE_VECTORS + v) * LANES, k < steps ? load(t.b + (from + k) * t.b_stride + v * LANES) : vec{});
  }
};

// Where the sums of one vector of outputs start and end.
struct Column {
  const float* from;
  float* to;
  long from_bytes, to_bytes;
};

// One vector whose every lane may be touched is read and written where it lies.
struct Sums {
  const Tile& t;
  long rows, vectors;
  alignas(64) float edge[2 * SIDE * LANES];

  bool partial(long v) const { return v == vectors - 1 && t.last < LANES; }
  Column begin(long v) {
    if (!partial(v)) return {t.start + v * LANES, t.c + v * LANES, 4 * t.start_stride, 4 * t.c_stride};
    for (long r = 0; r < rows; ++r)
      store(edge + r * LANES, load_first(t.start + r * t.start_stride + v * LANES, t.last));
    return {edge, edge, 4 * LANES, 4 * LANES};
  }
  void end(long v) const {
    if (partial(v))
      for (long r = 0; r < rows; ++r)
        store_first(t.c + r * t.c_stride + v * LANES, load(edge + r * LANES), t.last);
  }
};

template <bool Bytes>
inline void add_all(const Tile& t, const Rest& rest, long first, long v, bool both) {
  const Operands whole{t.a, t.a + first * t.a_stride, t.b + v * LANES, 4 * t.a_stride, 4 * t.b_stride, t.steps};
  const Operands last{rest.a, rest.a + first * SIDE, rest.b + v * LANES, 4 * SIDE, 4 * TILE_VECTORS * LANES, SIDE};
  both ? add_steps<Bytes, true>(whole) : add_steps<Bytes, false>(whole);
  if (t.steps % SIDE) both ? add_steps<Bytes, true>(last) : add_steps<Bytes, false>(last);
}

void shape(long first, long second) {
  if (held_shapes.change(first, second, 0)) configure(first, second);
}

inline const float* at_row(const float* p, long bytes, long row) { return p + row * (bytes / 4); }
inline float* at_row(float* p, long bytes, long row) { return p + row * (bytes / 4); }

}  // namespace

void multiply_row_pairs(const Tile& t, long rows, long vectors) {
  const long first = rows / 2;
  shape(first, rows - first);
  const Rest rest(t, rows, vectors);
  Sums sums{t, rows, vectors, {}};
  for (long v = 0; v < vectors; v += 2) {
    const bool both = v + 1 < vectors;
    const Column one = sums.begin(v), two = both ? sums.begin(v + 1) : Column{};
    asm volatile("" ::: "memory");  // the intrinsics do not say that they read memory
    _tile_loadd(0, one.from, one.from_bytes);
    _tile_loadd(2, at_row(one.from, one.from_bytes, first), one.from_bytes);
    if (both) {
      _tile_loadd(1, two.from, two.from_bytes);
      _tile_loadd(3, at_row(two.from, two.from_bytes, first), two.from_bytes);
    }
    add_all<false>(t, rest, first, v, both);
    _tile_stored(0, one.to, one.to_bytes);
    _tile_stored(2, at_row(one.to, one.to_bytes, first), one.to_bytes);
    if (both) {
      _tile_stored(1, two.to, two.to_bytes);
      _tile_stored(3, at_row(two.to, two.to_bytes, first), two.to_bytes);
    }
    asm volatile("" ::: "memory");
    sums.end(v);
    if (both) sums.end(v + 1);
  }
}

void multiply_byte_row_pairs(const QuantizedTile& t, long rows, long vectors) {
  const long first = rows / 2;
  shape(first, rows - first);
  const Rest rest(t, rows, vectors);
  constexpr long BYTES = 4 * 2 * LANES;
  alignas(64) float sums[2 * SIDE * 2 * LANES];
  for (long v = 0; v < vectors; v += 2) {
    const bool both = v + 1 < vectors;
    asm volatile("" ::: "memory");
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    add_all<true>(t, rest, first, v, both);
    _tile_stored(0, sums, BYTES);
    _tile_stored(2, at_row(sums, BYTES, first), BYTES);
    if (both) {
      _tile_stored(1, sums + LANES, BYTES);
      _tile_stored(3, at_row(sums + LANES, BYTES, first), BYTES);
    }
    asm volatile("" ::: "memory");
    for (long r = 0; r < rows; ++r)
      for (long u = v; u < v + 1 + both; ++u)
        dequantize(t, r, u, vectors, (ivec)load(sums + (r * 2 + u - v) * LANES));
  }
}

}  // namespace recarena

#endif
