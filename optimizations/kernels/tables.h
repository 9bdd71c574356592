// Embedding tables, the rows that lie elsewhere, and all tables of one side.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "blocks.h"
#include "vec.h"

extern "C" {

// Of 32 rows: which of them are hot (bit by bit), and the place of the first hot one.
struct RecarenaHotRows {
  uint32_t bits, first;
};

// A table [rows, width] of float or bfloat16. mean: average (1) or sum (0) of a bag. Hot rows lie in `hot`, and one of
// these tells where: places [rows], or -1 for a row that is not hot; or marks [rows / 32], hot rows in their own order.
// Both are null where all rows lie in `rows`.
struct RecarenaTable {
  const void* rows;
  int64_t width, mean;
  const void* hot;
  const int32_t* places;
  const RecarenaHotRows* marks;
};

// Fields of one side in output order; the result's row is their concatenation.
struct RecarenaEmbeddedSide {
  int64_t id_count, bag_count;
  const RecarenaTable *ids, *bags;
};
}

namespace recarena {

struct Float {
  typedef float Value;
  static vec get(const Value* p, long lanes) { return lanes == LANES ? load(p) : load_first(p, lanes); }
};

struct Half {
  typedef uint16_t Value;
  static vec get(const Value* p, long lanes) {
    typedef uint16_t halves __attribute__((vector_size(LANES * 2)));
    halves packed{};
    if (lanes == LANES)
      std::memcpy(&packed, p, sizeof packed);
    else
#if RECARENA_AVX512
      packed = (halves)_mm256_maskz_loadu_epi16((__mmask16)((1u << lanes) - 1), p);
#else
      std::memcpy(&packed, p, lanes * 2);
#endif
    return (vec)(__builtin_convertvector(packed, ivec) << 16);
  }
};

// Where a row lies. Whether it is hot is no branch: nobody could foresee it, and what follows would wait for the index.
template <class Type>
const typename Type::Value* row_of(const RecarenaTable& table, int64_t row) {
  typedef const typename Type::Value* Rows;
  if (!table.hot) return static_cast<Rows>(table.rows) + row * table.width;
  int64_t place, hot;  // hot: all bits, or none
  if (table.marks) {
    const RecarenaHotRows& of = table.marks[row >> 5];
    const uint32_t bit = (uint32_t)(row & 31);
    place = (int64_t)of.first + __builtin_popcount(of.bits & ((1u << bit) - 1));
    hot = -(int64_t)(of.bits >> bit & 1);
  } else {
    place = table.places[row];
    hot = ~(place >> 63);
  }
  const intptr_t cold = (intptr_t)table.rows;
  const intptr_t rows = cold ^ ((cold ^ (intptr_t)table.hot) & (intptr_t)hot);
  return reinterpret_cast<Rows>(rows) + (row ^ ((row ^ place) & hot)) * table.width;
}

// Each line that the row fills; a rest comes quicker by itself than by one more request.
template <class Type>
void fetch_row(const RecarenaTable& table, int64_t row) {
  const char* from = reinterpret_cast<const char*>(row_of<Type>(table, row));
  const long bytes = table.width * (long)sizeof(typename Type::Value);
  __builtin_prefetch(from);
  for (long at = 64; at + 64 <= bytes; at += 64) __builtin_prefetch(from + at);
}

template <class Type>
void copy_row(const RecarenaTable& table, int64_t row, float* to) {
  const auto* from = row_of<Type>(table, row);
  long j = 0;
  for (; j + LANES <= table.width; j += LANES) store(to + j, Type::get(from + j, LANES));
  if (j < table.width) store_first(to + j, Type::get(from + j, table.width - j), table.width - j);
}

template <class Type>
void pool_rows(const RecarenaTable& table, const int64_t* rows, int64_t count, float* to) {
  const float scale = table.mean && count > 1 ? 1.0f / (float)count : 1.0f;
  for (long j = 0; j < table.width; j += LANES) {
    const long lanes = std::min<long>(LANES, table.width - j);
    vec total{};
    for (int64_t i = 0; i < count; ++i) total = total + Type::get(row_of<Type>(table, rows[i]) + j, lanes);
    store_first(to + j, total * scale, lanes);
  }
}

struct Side {
  std::vector<RecarenaTable> ids, bags;
  int64_t width = 0;
  bool indexed = false;

  explicit Side(const RecarenaEmbeddedSide& side)
      : ids(side.ids, side.ids + side.id_count), bags(side.bags, side.bags + side.bag_count) {
    for (const auto* tables : {&ids, &bags})
      for (const RecarenaTable& table : *tables) width += table.width, indexed |= table.hot != nullptr;
  }

  // act(table, row) for every row that sample r looks up in the one-hot fields, or in the bags.
  template <class Act>
  void each_id(const RecarenaLookup& call, int64_t r, const Act& act) const {
    const long fields = (long)ids.size();
    for (long k = 0; k < fields; ++k) act(ids[k], call.rows[r * fields + k]);
  }

  template <class Act>
  void each_in_bags(const RecarenaLookup& call, int64_t r, const Act& act) const {
    const long count = (long)bags.size();
    for (long b = 0; b < count; ++b)
      for (int64_t i = call.bag_offsets[r * count + b]; i < call.bag_offsets[r * count + b + 1]; ++i)
        act(bags[b], call.bag_rows[i]);
  }
};

inline void fetch_place(const RecarenaTable& table, int64_t row) {
  if (table.marks)
    __builtin_prefetch(table.marks + (row >> 5));
  else
    __builtin_prefetch(table.places + row);
}

}  // namespace recarena
