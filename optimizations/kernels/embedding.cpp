// Embedding lookup of all tables in one call, written once, where the concatenation wants it; and the wide part.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "blocks.h"
#include "pool.h"
#include "vec.h"

using namespace recarena;

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

namespace {

constexpr long AHEAD = 3;  // samples that are asked for before the first of them is used

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

  // act(table, row) for every row that sample r looks up.
  template <class Act>
  void each(const RecarenaLookup& call, int64_t r, const Act& act) const {
    const long fields = (long)ids.size(), count = (long)bags.size();
    for (long k = 0; k < fields; ++k) act(ids[k], call.rows[r * fields + k]);
    for (long b = 0; b < count; ++b)
      for (int64_t i = call.bag_offsets[r * count + b]; i < call.bag_offsets[r * count + b + 1]; ++i)
        act(bags[b], call.bag_rows[i]);
  }
};

void fetch_place(const RecarenaTable& table, int64_t row) {
  if (table.marks)
    __builtin_prefetch(table.marks + (row >> 5));
  else
    __builtin_prefetch(table.places + row);
}

template <class Type>
void look_up(const Side& side, const RecarenaLookup& call, int64_t first, int64_t end) {
  const long fields = (long)side.ids.size(), bags = (long)side.bags.size();
  for (int64_t r = first, fetched = first, found = first; r < end; ++r) {
    const int64_t ahead = std::min(r + AHEAD, end), far = std::min(r + 2 * AHEAD, end);
    // Where a row lies has to be there before the row can be asked for.
    for (; side.indexed && found < far; ++found) side.each(call, found, fetch_place);
    for (; fetched < ahead; ++fetched) side.each(call, fetched, fetch_row<Type>);
    float* to = call.out + r * side.width;
    for (long k = 0; k < fields; to += side.ids[k].width, ++k) copy_row<Type>(side.ids[k], call.rows[r * fields + k], to);
    for (long b = 0; b < bags; to += side.bags[b].width, ++b) {
      const int64_t from = call.bag_offsets[r * bags + b];
      pool_rows<Type>(side.bags[b], call.bag_rows + from, call.bag_offsets[r * bags + b + 1] - from, to);
    }
  }
}

struct Embedding {
  Side sides[3];  // user, item, and one behaviour of the history
  bool bf16;
};

// Sum of the first `length` rows [width] of a user's behaviours.
void sum_behaviours(const float* rows, int64_t length, long width, float* to) {
  for (long j = 0; j < width; j += LANES) {
    const long lanes = std::min(LANES, width - j);
    vec total{};
    for (int64_t t = 0; t < length; ++t) total = total + load_first(rows + t * width + j, lanes);
    store_first(to + j, total, lanes);
  }
}

template <class Type>
void run(const Embedding& embedding, const RecarenaLookup* lookups, const RecarenaHistory& history, int threads) {
  double floats = 0;
  for (int s = 0; s < 3; ++s) floats += (double)lookups[s].count * embedding.sides[s].width;
  threads = worthwhile(threads, floats);
  const int64_t shares = threads > 1 ? 4 * threads : 1, steps = history.steps;
  parallel(3 * shares, threads, [&](long tile) {
    const long side = tile / shares, share = tile % shares;
    const int64_t unit = side == 2 ? steps : 1, units = lookups[side].count / unit;  // a user's steps stay together
    const int64_t first = share * units / shares, end = (share + 1) * units / shares;
    look_up<Type>(embedding.sides[side], lookups[side], first * unit, end * unit);
    if (side < 2) return;
    const long width = embedding.sides[side].width;
    for (int64_t u = first; u < end; ++u)
      sum_behaviours(lookups[side].out + u * steps * width, history.lengths[u], width, history.summed + u * width);
  });
}

struct Wide {
  Side sides[2];
  std::vector<float> dense[2];
  std::vector<RecarenaTable> crosses;
  float bias;
};

float weight(const RecarenaTable& table, int64_t row) { return static_cast<const float*>(table.rows)[row]; }

float wide_row(const Side& side, const std::vector<float>& linear, const RecarenaLookup& call, const float* dense,
               int64_t r) {
  const long fields = (long)side.ids.size(), bags = (long)side.bags.size(), columns = (long)linear.size();
  float total = 0;
  for (long k = 0; k < columns; ++k) total += dense[r * columns + k] * linear[k];
  for (long k = 0; k < fields; ++k) total += weight(side.ids[k], call.rows[r * fields + k]);
  for (long b = 0; b < bags; ++b) {
    const int64_t first = call.bag_offsets[r * bags + b], end = call.bag_offsets[r * bags + b + 1];
    float bag = 0;
    for (int64_t i = first; i < end; ++i) bag += weight(side.bags[b], call.bag_rows[i]);
    total += side.bags[b].mean && end > first ? bag / (float)(end - first) : bag;
  }
  return total;
}

}  // namespace

extern "C" {

// sides: user, item, behaviour. The tables are read where they lie and must outlive the handle.
void* recarena_embedding_new(const RecarenaEmbeddedSide* sides, int bf16) {
  return new Embedding{{Side(sides[0]), Side(sides[1]), Side(sides[2])}, bf16 != 0};
}

void recarena_embedding_free(void* handle) { delete static_cast<Embedding*>(handle); }

void recarena_embedding_run(const void* handle, const RecarenaLookup* lookups, const RecarenaHistory* history,
                            int threads) {
  const auto& embedding = *static_cast<const Embedding*>(handle);
  (embedding.bf16 ? run<Half> : run<Float>)(embedding, lookups, *history, threads);
}

// Tables of width 1 in fp32; dense: weights of the user's, then of the item's dense columns.
void* recarena_wide_new(const RecarenaEmbeddedSide* sides, const float* dense, int64_t user_columns,
                        int64_t item_columns, const RecarenaTable* crosses, int64_t cross_count, float bias) {
  return new Wide{{Side(sides[0]), Side(sides[1])},
                  {{dense, dense + user_columns}, {dense + user_columns, dense + user_columns + item_columns}},
                  {crosses, crosses + cross_count},
                  bias};
}

void recarena_wide_free(void* handle) { delete static_cast<Wide*>(handle); }

// dense: engineered columns of both sides; crosses [samples, C]; user_of [samples] or null; logit [samples].
// The user's part is computed once per user row.
void recarena_wide_run(const void* handle, const RecarenaLookup* lookups, const float* user_dense,
                       const float* item_dense, const int64_t* crosses, const int64_t* user_of, float* logit) {
  const auto& wide = *static_cast<const Wide*>(handle);
  float* user = scratch(0, lookups[0].count);
  for (int64_t u = 0; u < lookups[0].count; ++u)
    user[u] = wide_row(wide.sides[0], wide.dense[0], lookups[0], user_dense, u);
  const long width = (long)wide.crosses.size();
  for (int64_t n = 0; n < lookups[1].count; ++n) {
    float total = user[user_of ? user_of[n] : n] + wide.bias;
    total += wide_row(wide.sides[1], wide.dense[1], lookups[1], item_dense, n);
    for (long c = 0; c < width; ++c) total += weight(wide.crosses[c], crosses[n * width + c]);
    logit[n] = total;
  }
}

}  // extern "C"
