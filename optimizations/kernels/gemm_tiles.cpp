// Products in AMX tiles: sixteen rows times sixteen outputs times sixteen steps, of two inputs in bfloat16 or four bytes.
//
// Panels already lie as the instructions want their second operand: sixteen steps of one vector of outputs are a tile.
// Sums of pairs are fp32, and subnormal numbers count as 0; sums of bytes are integers.
#include "amx.h"

#if RECARENA_TILES
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace recarena {

#if RECARENA_TILES
thread_local HeldShapes held_shapes;

namespace {

// Sums in tiles 0 to 3, a row's operands in 4, weights in 5; in 6 and 7 those of the last `rest` steps.
void configure(long rows, long rest) {
  TileShapes shapes;
  for (int sums = 0; sums < 4; ++sums) shapes.set(sums, rows, SIDE);
  shapes.set(4, rows, SIDE), shapes.set(5, SIDE, SIDE);
  if (rest) shapes.set(6, rows, rest), shapes.set(7, rest, SIDE);
  shapes.load();
}

// What is done with the sums of each of the V vectors; a tile's number has to be a literal.
#define RECARENA_EACH(action) \
  { action(0) }               \
  if (V > 1) { action(1) }    \
  if (V > 2) { action(2) }    \
  if (V > 3) { action(3) }
#define RECARENA_ZERO(v) _tile_zero(v);
#define RECARENA_LOAD(v) _tile_loadd(v, place[v].from, place[v].from_bytes);
#define RECARENA_STORE(v) _tile_stored(v, place[v].to, place[v].to_bytes);
#define RECARENA_MULTIPLY(v)              \
  _tile_loadd(5, b + v * LANES, b_bytes); \
  if (Bytes) {                            \
    _tile_dpbusd(v, 4, 5);                \
  } else {                                \
    _tile_dpbf16ps(v, 4, 5);              \
  }
#define RECARENA_REST(v)                  \
  _tile_loadd(7, b + v * LANES, b_bytes); \
  if (Bytes) {                            \
    _tile_dpbusd(v, 6, 7);                \
  } else {                                \
    _tile_dpbf16ps(v, 6, 7);              \
  }

// Adds all steps to the sums, which are in their tiles.
template <bool Bytes, int V>
inline void add_steps(const Tile& t) {
  const float *a = t.a, *b = t.b;
  const long a_bytes = 4 * t.a_stride, b_bytes = 4 * t.b_stride;
  for (long k = 0; k + SIDE <= t.steps; k += SIDE, a += SIDE, b += SIDE * t.b_stride) {
    _tile_loadd(4, a, a_bytes);
    RECARENA_EACH(RECARENA_MULTIPLY)
  }
  if (t.steps % SIDE) {
    _tile_loadd(6, a, a_bytes);
    RECARENA_EACH(RECARENA_REST)
  }
}

struct Place {
  const float* from;
  float* to;
  long from_bytes, to_bytes;
};

template <int V>
void multiply_pairs(const Tile& t, long rows) {
  Place place[4] = {};
  for (int v = 0; v < V; ++v)
    place[v] = {t.start + v * LANES, t.c + v * LANES, 4 * t.start_stride, 4 * t.c_stride};
  alignas(64) float edge[SIDE * LANES];  // sums of a last vector of which not every lane may be touched
  if (t.last < LANES) {
    for (long r = 0; r < rows; ++r) store(edge + r * LANES, load_first(place[V - 1].from + r * t.start_stride, t.last));
    place[V - 1] = {edge, edge, 4 * LANES, 4 * LANES};
  }
  asm volatile("" ::: "memory");  // the intrinsics do not say that they read memory
  RECARENA_EACH(RECARENA_LOAD)
  add_steps<false, V>(t);
  RECARENA_EACH(RECARENA_STORE)
  if (t.last < LANES)
    for (long r = 0; r < rows; ++r)
      store_first(t.c + r * t.c_stride + (V - 1) * LANES, load(edge + r * LANES), t.last);
}

template <int V>
void multiply_bytes(const QuantizedTile& t, long rows) {
  alignas(64) float sums[SIDE * V * LANES];
  Place place[4] = {};
  for (int v = 0; v < V; ++v) place[v].to = sums + v * LANES, place[v].to_bytes = 4 * V * LANES;
  asm volatile("" ::: "memory");
  RECARENA_EACH(RECARENA_ZERO)
  add_steps<true, V>(t);
  RECARENA_EACH(RECARENA_STORE)
  for (long r = 0; r < rows; ++r)
    for (long v = 0; v < V; ++v) dequantize(t, r, v, V, (ivec)load(sums + (r * V + v) * LANES));
}

// one(row, count) for up to a tile of rows, two(row, count) for up to two of them, all in even shares.
template <class One, class Two>
void in_tiles(long rows, long steps, const One& one, const Two& two) {
  const long most = steps >= STEPS_FOR_PAIRS ? 2 * SIDE : SIDE, blocks = (rows + most - 1) / most;
  for (long block = 0; block < blocks; ++block) {
    const long row = block * rows / blocks, count = (block + 1) * rows / blocks - row;
    if (count > SIDE) {
      two(row, count);
      continue;
    }
    if (held_shapes.change(count, 0, steps % SIDE)) configure(count, steps % SIDE);
    one(row, count);
  }
  held_shapes.release();
}

// The rows of a tile product from `row` on.
Tile from_row(Tile t, long row) {
  t.a += row * t.a_stride, t.start += row * t.start_stride, t.c += row * t.c_stride;
  return t;
}

QuantizedTile from_row(QuantizedTile t, long row) {
  static_cast<Tile&>(t) = from_row(static_cast<const Tile&>(t), row);
  t.ranges += row;
  return t;
}

}  // namespace

bool has_tiles() {
  // ARCH_REQ_XCOMP_PERM of XFEATURE_XTILEDATA: Linux keeps room for the tiles of those only who ask for them.
  static const bool granted = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
  return granted;
}

HeldTiles::HeldTiles() { ++held_shapes.holders; }
HeldTiles::~HeldTiles() {
  if (--held_shapes.holders == 0 && held_shapes.first) held_shapes.release();
}

void multiply_tiles(const Tile& all, long rows, long vectors) {
  static void (*const run[])(const Tile&, long) = {multiply_pairs<1>, multiply_pairs<2>, multiply_pairs<3>,
                                                   multiply_pairs<4>};
  in_tiles(
      rows, all.steps, [&](long row, long count) { run[vectors - 1](from_row(all, row), count); },
      [&](long row, long count) { multiply_row_pairs(from_row(all, row), count, vectors); });
}

void multiply_byte_tiles(const QuantizedTile& all, long rows, long vectors) {
  static void (*const run[])(const QuantizedTile&, long) = {multiply_bytes<1>, multiply_bytes<2>, multiply_bytes<3>,
                                                            multiply_bytes<4>};
  in_tiles(
      rows, all.steps, [&](long row, long count) { run[vectors - 1](from_row(all, row), count); },
      [&](long row, long count) { multiply_byte_row_pairs(from_row(all, row), count, vectors); });
}

#else

bool has_tiles() { return false; }
HeldTiles::HeldTiles() {}
HeldTiles::~HeldTiles() {}
void multiply_tiles(const Tile&, long, long) {}
void multiply_byte_tiles(const QuantizedTile&, long, long) {}

#endif

}  // namespace recarena
