// A step of Adagrad or FTRL-Proximal on embedding tables: on the rows that a batch has touched, all tables in one call.
//
// The gradient of a table is a list of rows and vectors in which a row may stand many times. The list is sorted by row
// and stays in order otherwise, so that each row's vectors are added as torch.Tensor.coalesce adds them; then each row
// is moved once. Products are rounded before they are added, as the framework's operators round them one by one.
#if defined(__clang__)
#pragma clang fp contract(off)
#else
#pragma GCC optimize("fp-contract=off")
#endif

#include <algorithm>
#include <cstdint>
#include <vector>

#include "pool.h"
#include "subnormals.h"
#include "vec.h"

using namespace recarena;

// One table [table_rows, width] and its gradient: rows [count], gradients [count, width], the k-th at k times its stride,
// since both may be columns of all that a side looks up. Adagrad keeps the sum of squares in `first`; FTRL its z in
// `first` and its n in `second`.
struct RecarenaRowStep {
  const int64_t* rows;
  const float* gradients;
  int64_t row_stride, gradient_stride;
  int64_t count, width, table_rows;
  float *weights, *first, *second;

  int64_t row(uint32_t k) const { return rows[k * row_stride]; }
  const float* gradient(uint32_t k) const { return gradients + k * gradient_stride; }
};

namespace {

using Step = RecarenaRowStep;

constexpr int DIGIT = 11;
constexpr long TILE = 16384;  // floats of gradient that are worth a task of their own

// Places of a gradient's list in order of their rows, and where each distinct row begins; the last start is the end.
struct Sorted {
  std::vector<uint32_t> order;
  std::vector<uint32_t> starts;
};

struct Tile {
  long table, first, end;  // distinct rows [first, end)
};

// Least significant digit first: stable, and linear in the list.
void sort_rows(const Step& step, Sorted& sorted) {
  const uint32_t count = (uint32_t)step.count;
  std::vector<uint32_t>& order = sorted.order;
  std::vector<uint32_t> other(count), places(1u << DIGIT);
  order.resize(count);
  for (uint32_t i = 0; i < count; ++i) order[i] = i;
  for (int shift = 0; shift == 0 || (step.table_rows - 1) >> shift; shift += DIGIT) {
    std::fill(places.begin(), places.end(), 0u);
    const auto digit = [&](uint32_t i) { return (uint32_t)(step.row(i) >> shift) & ((1u << DIGIT) - 1); };
    for (uint32_t i = 0; i < count; ++i) ++places[digit(i)];
    uint32_t total = 0;
    for (uint32_t& place : places) {
      const uint32_t here = place;
      place = total, total += here;
    }
    for (uint32_t i = 0; i < count; ++i) other[places[digit(order[i])]++] = order[i];
    order.swap(other);
  }
  sorted.starts.clear();
  for (uint32_t i = 0; i < count; ++i)
    if (!i || step.row(order[i]) != step.row(order[i - 1])) sorted.starts.push_back(i);
  sorted.starts.push_back(count);
}

template <class Rule>
void move_rows(const Step& step, const Sorted& sorted, long first, long end, const Rule& rule) {
  const long width = step.width;
  for (long group = first; group < end; ++group) {
    const uint32_t *begin = &sorted.order[sorted.starts[group]], *stop = &sorted.order[0] + sorted.starts[group + 1];
    const int64_t at = step.row(*begin) * width;
    for (long j = 0; j < width; j += LANES) {
      const long lanes = std::min(LANES, width - j);
      vec gradient = load_first(step.gradient(*begin) + j, lanes);
      for (const uint32_t* next = begin + 1; next < stop; ++next)
        gradient = gradient + load_first(step.gradient(*next) + j, lanes);
      rule(step, at + j, lanes, gradient);
    }
  }
}

template <class Rule>
void run(const Step* tables, long count, int threads, const Rule& rule) {
  std::vector<Sorted> sorted(count);
  double floats = 0;
  for (long k = 0; k < count; ++k) floats += (double)tables[k].count * tables[k].width;
  threads = worthwhile(threads, 4 * floats);
  parallel(count, threads, [&](long k) { sort_rows(tables[k], sorted[k]); });
  std::vector<Tile> tiles;
  for (long k = 0; k < count; ++k) {
    const long groups = (long)sorted[k].starts.size() - 1;
    const long parts = std::max(1L, std::min(groups, (long)(tables[k].count * tables[k].width) / TILE));
    for (long part = 0; part < parts && groups; ++part)
      tiles.push_back({k, groups * part / parts, groups * (part + 1) / parts});
  }
  parallel((long)tiles.size(), threads, [&](long number) {
    const WithoutSubnormals guard;
    (void)guard;
    const Tile& tile = tiles[number];
    move_rows(tables[tile.table], sorted[tile.table], tile.first, tile.end, rule);
  });
}

// s += g^2; w -= rate g / (sqrt(s) + eps), with l2 w added to g (zoo.optimizers.Adagrad).
struct Adagrad {
  float rate, l2, eps;

  void operator()(const Step& step, int64_t at, long lanes, vec gradient) const {
    vec weights = load_first(step.weights + at, lanes);
    if (l2 > 0) gradient = gradient + weights * l2;
    const vec squares = load_first(step.first + at, lanes) + gradient * gradient;
    store_first(step.first + at, squares, lanes);
    store_first(step.weights + at, weights + gradient * -rate / (square_root(squares) + eps), lanes);
  }
};

// zoo.optimizers.FtrlProximal.
struct Ftrl {
  float alpha, beta, l1, l2;

  void operator()(const Step& step, int64_t at, long lanes, vec gradient) const {
    const vec weights = load_first(step.weights + at, lanes), before = load_first(step.second + at, lanes);
    const vec after = before + gradient * gradient, root = square_root(after);
    const vec sigma = (root - square_root(before)) / alpha;
    const vec z = load_first(step.first + at, lanes) + gradient - sigma * weights;
    store_first(step.first + at, z, lanes), store_first(step.second + at, after, lanes);
    const vec size = max((z > 0 ? z : -z) - l1, vec{});
    const vec shrunk = z > 0 ? size : -size;
    store_first(step.weights + at, -shrunk / ((root + beta) / alpha + l2), lanes);
  }
};

}  // namespace

extern "C" {

void recarena_adagrad(const RecarenaRowStep* tables, int64_t count, float rate, float l2, float eps, int threads) {
  run(tables, (long)count, threads, Adagrad{rate, l2, eps});
}

void recarena_ftrl(const RecarenaRowStep* tables, int64_t count, float alpha, float beta, float l1, float l2,
                   int threads) {
  run(tables, (long)count, threads, Ftrl{alpha, beta, l1, l2});
}

}  // extern "C"
