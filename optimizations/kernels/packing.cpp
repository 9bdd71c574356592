// Rows into and out of a packed order: what an index of the framework does, without its detours on the way back.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "pool.h"
#include "vec.h"

using namespace recarena;

namespace {

constexpr long SHARES = 4;  // of each thread

template <class F>
void over_rows(int64_t rows, int64_t width, int threads, const F& body) {
  threads = worthwhile(threads, (double)rows * width);
  const long shares = threads > 1 ? SHARES * threads : 1;
  parallel(shares, threads, [&](long share) { body(rows * share / shares, rows * (share + 1) / shares); });
}

}  // namespace

extern "C" {

// to[i] = from[index[i]] for rows of `width` floats.
void recarena_rows_take(const float* from, const int64_t* index, int64_t count, int64_t width, float* to, int threads) {
  over_rows(count, width, threads, [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i)
      std::memcpy(to + i * width, from + index[i] * width, width * sizeof(float));
  });
}

// to [rows, width] is 0 but for to[index[i]] = from[i]; no row stands twice in `index`.
void recarena_rows_put(const float* from, const int64_t* index, int64_t count, int64_t width, float* to, int64_t rows,
                       int threads) {
  over_rows(rows, width, threads,
            [&](int64_t first, int64_t end) { std::memset(to + first * width, 0, (end - first) * width * sizeof(float)); });
  over_rows(count, width, threads, [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i)
      std::memcpy(to + index[i] * width, from + i * width, width * sizeof(float));
  });
}

// From padded table rows [rows, steps, width], those of the real steps from step `skip` on, one after another; places, unless
// it is null: of each, row times `steps` plus the step that is `skip` before it. Returns how many.
int64_t recarena_rows_real(const int64_t* padded, const int64_t* lengths, int64_t rows, int64_t steps, int64_t width,
                           int64_t skip, int64_t* out, int64_t* places) {
  int64_t count = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t real = lengths[r] - skip;
    if (real <= 0) continue;
    std::memcpy(out + count * width, padded + (r * steps + skip) * width, real * width * sizeof(int64_t));
    if (places)
      for (int64_t t = 0; t < real; ++t) places[count + t] = r * steps + t;
    count += real;
  }
  return count;
}

// The values of bags that lie interleaved, `bags` to a row, bag by bag: rows of tables, and of each the row that it lies in.
// values [total], offsets [rows * bags + 1]; out, of [total]; bounds [bags + 1]: where each bag's values begin in them.
void recarena_bag_entries(const int64_t* values, const int64_t* offsets, int64_t rows, int64_t bags, int64_t* out,
                          int64_t* of, int64_t* bounds) {
  int64_t count = 0;
  for (int64_t bag = 0; bag < bags; ++bag) {
    bounds[bag] = count;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = offsets[r * bags + bag]; i < offsets[r * bags + bag + 1]; ++i, ++count)
        out[count] = values[i], of[count] = r;
  }
  bounds[bags] = count;
}

// Real steps of histories from [rows, steps, width], one after another: to[starts[r] + t] = from[r][t] + each[r].
void recarena_rows_pack(const float* from, const float* each, const int64_t* starts, int64_t rows, int64_t steps,
                        int64_t width, float* to, int threads) {
  threads = worthwhile(threads, rows ? (double)starts[rows] * width : 0.0);
  const long shares = threads > 1 ? SHARES * threads : 1;
  parallel(shares, threads, [&](long share) {
    for (int64_t r = rows * share / shares; r < rows * (share + 1) / shares; ++r)
      for (int64_t t = 0; t < starts[r + 1] - starts[r]; ++t)
        for (int64_t j = 0; j < width; j += LANES) {
          const long lanes = std::min<long>(LANES, width - j);
          const vec own = load_first(from + (r * steps + t) * width + j, lanes);
          store_first(to + (starts[r] + t) * width + j, own + load_first(each + r * width + j, lanes), lanes);
        }
  });
}

// to[r] = sum of from[starts[r]] .. from[starts[r + 1] - 1], in their order.
void recarena_rows_sum(const float* from, const int64_t* starts, int64_t rows, int64_t width, float* to, int threads) {
  const int64_t total = rows ? starts[rows] : 0;
  threads = worthwhile(threads, (double)total * width);
  const long shares = threads > 1 ? SHARES * threads : 1;
  parallel(shares, threads, [&](long share) {
    for (int64_t r = rows * share / shares; r < rows * (share + 1) / shares; ++r)
      for (int64_t j = 0; j < width; j += LANES) {
        const long lanes = std::min<long>(LANES, width - j);
        vec sum{};
        for (int64_t i = starts[r]; i < starts[r + 1]; ++i) sum = sum + load_first(from + i * width + j, lanes);
        store_first(to + r * width + j, sum, lanes);
      }
  });
}

}  // extern "C"
