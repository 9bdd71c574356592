// The AMX tiles of a thread: their shapes, and who keeps them between products.
#pragma once
#include "gemm_int8.h"

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AMX_INT8__) && defined(RECARENA_AVX512) && defined(__linux__)
#define RECARENA_TILES 1

namespace recarena {

constexpr long SIDE = 16;  // rows of a tile, and 32-bit elements of a row

struct alignas(64) TileShapes {
  uint8_t palette = 1, first_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set(int tile, long count, long elements) { rows[tile] = (uint8_t)count, row_bytes[tile] = (uint16_t)(4 * elements); }

  void load() const {
    asm volatile("" ::"r"(this) : "memory");  // the intrinsic says that it reads eight bytes only
    _tile_loadconfig(this);
  }
};

// What this thread's tiles are shaped for: `first` rows of a product with a `rest` of its steps, or `first` and `second`
// rows side by side; 0 rows: nothing. `holders` keep it so between products.
struct HeldShapes {
  long first = 0, second = 0, rest = 0, holders = 0;

  // Whether the tiles have to be shaped for this now.
  bool change(long rows, long more_rows, long steps_left) {
    if (rows == first && more_rows == second && steps_left == rest) return false;
    first = rows, second = more_rows, rest = steps_left;
    return true;
  }
  void release() {
    if (holders == 0) _tile_release(), first = 0;
  }
};
extern thread_local HeldShapes held_shapes;

// Rows of a product of at least so many steps go two tiles at a time: each tile of weights is then read half as often.
constexpr long STEPS_FOR_PAIRS = 64;
// Up to 2 SIDE rows of a tile product, cut in two; `rows` more than SIDE.
void multiply_row_pairs(const Tile& t, long rows, long vectors);
void multiply_byte_row_pairs(const QuantizedTile& t, long rows, long vectors);

}  // namespace recarena
#endif
