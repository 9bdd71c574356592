// Embedding lookup of all tables in one call, written once, where the concatenation wants it; and the wide part.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "blocks.h"
#include "pool.h"
#include "tables.h"
#include "vec.h"

using namespace recarena;

namespace {

constexpr long AHEAD = 3;  // samples that are asked for before the first of them is used

// Rows are asked for AHEAD samples before they are used, those of one-hot fields one by one between the copies: a burst
// of them would find the core's buffers for lines on their way full. Bags are long anyway, and gain nothing by it.
template <class Type>
void look_up(const Side& side, const RecarenaLookup& call, int64_t first, int64_t end) {
  const long fields = (long)side.ids.size(), bags = (long)side.bags.size();
  for (int64_t next = first, found = first; next < end + AHEAD; ++next) {
    // Where a row lies has to be there before the row can be asked for.
    for (const int64_t far = std::min(next + AHEAD, end); side.indexed && found < far; ++found)
      side.each_id(call, found, fetch_place), side.each_in_bags(call, found, fetch_place);
    const bool asked = next < end;
    if (asked) side.each_in_bags(call, next, fetch_row<Type>);
    const int64_t r = next - AHEAD;
    if (r < first) {
      if (asked) side.each_id(call, next, fetch_row<Type>);
      continue;
    }
    float* to = call.out + r * side.width;
    for (long k = 0; k < fields; to += side.ids[k].width, ++k) {
      if (asked) fetch_row<Type>(side.ids[k], call.rows[next * fields + k]);
      copy_row<Type>(side.ids[k], call.rows[r * fields + k], to);
    }
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

// Vectors [count, width of a behaviour] of behaviours outside of a batch, from tables of floats.
void recarena_embedding_behaviours(const void* handle, const int64_t* rows, int64_t count, float* out, int threads) {
  const Side& side = static_cast<const Embedding*>(handle)->sides[2];
  const RecarenaLookup call{rows, nullptr, nullptr, count, out};
  threads = worthwhile(threads, (double)count * side.width);
  const int64_t shares = threads > 1 ? 4 * threads : 1;
  parallel(shares, threads, [&](long share) {
    look_up<Float>(side, call, share * count / shares, (share + 1) * count / shares);
  });
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
