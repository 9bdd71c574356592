// A step of Adagrad or FTRL-Proximal on embedding tables: on the rows that a batch has touched, all tables in one call.
//
// The gradient of a table is a list of rows and vectors in which a row may stand many times. The list is sorted by row
// and stays in order otherwise, so that each row's vectors are added as torch.Tensor.coalesce adds them; then each row
// is moved once. Products are rounded before they are added, as the framework's operators round them one by one.
// The order follows from the rows alone: it is a call of its own, which may be made before there are vectors.
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
// `first` and its n in `second`. order, starts, groups: of the rows, as RecarenaRowList has them.
struct RecarenaRowStep {
  const int64_t* rows;
  const float* gradients;
  int64_t row_stride, gradient_stride;
  int64_t count, width, table_rows;
  float *weights, *first, *second;
  const uint32_t *order, *starts;
  int64_t groups;

  int64_t row(uint32_t k) const { return rows[k * row_stride]; }
  const float* gradient(uint32_t k) const { return gradients + k * gradient_stride; }
};

// Rows [count], the k-th at k times `stride`. order [count]: their places by rising row, those of one row in their own
// order. starts [count + 1]: where each of the `groups` distinct rows begins in it; after the last one, the end.
struct RecarenaRowList {
  const int64_t* rows;
  int64_t stride, count, table_rows;
  uint32_t *order, *starts;
  int64_t groups;

  int64_t row(uint32_t k) const { return rows[k * stride]; }
};

namespace {

using Step = RecarenaRowStep;
using List = RecarenaRowList;

constexpr int DIGIT = 11;
constexpr long TILE = 16384;  // floats of gradient that are worth a task of their own

struct Tile {
  long table, first, end;  // distinct rows [first, end)
};

// Least significant digit first: stable, and linear in the list.
void sort_rows(List& list) {
  const uint32_t count = (uint32_t)list.count;
  std::vector<uint32_t> order(count), other(count), places(1u << DIGIT);
  for (uint32_t i = 0; i < count; ++i) order[i] = i;
  for (int shift = 0; shift == 0 || (list.table_rows - 1) >> shift; shift += DIGIT) {
    std::fill(places.begin(), places.end(), 0u);
    const auto digit = [&](uint32_t i) { return (uint32_t)(list.row(i) >> shift) & ((1u << DIGIT) - 1); };
    for (uint32_t i = 0; i < count; ++i) ++places[digit(i)];
    uint32_t total = 0;
    for (uint32_t& place : places) {
      const uint32_t here = place;
      place = total, total += here;
    }
    for (uint32_t i = 0; i < count; ++i) other[places[digit(order[i])]++] = order[i];
    order.swap(other);
  }
  list.groups = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (!i || list.row(order[i]) != list.row(order[i - 1])) list.starts[list.groups++] = i;
    list.order[i] = order[i];
  }
  list.starts[list.groups] = count;
}

template <class Rule>
void move_rows(const Step& step, long first, long end, const Rule& rule) {
  const long width = step.width;
  for (long group = first; group < end; ++group) {
    const uint32_t *begin = step.order + step.starts[group], *stop = step.order + step.starts[group + 1];
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
  double floats = 0;
  for (long k = 0; k < count; ++k) floats += (double)tables[k].count * tables[k].width;
  threads = worthwhile(threads, 4 * floats);
  std::vector<Tile> tiles;
  for (long k = 0; k < count; ++k) {
    const long groups = (long)tables[k].groups;
    const long parts = std::max(1L, std::min(groups, (long)(tables[k].count * tables[k].width) / TILE));
    for (long part = 0; part < parts && groups; ++part)
      tiles.push_back({k, groups * part / parts, groups * (part + 1) / parts});
  }
  parallel((long)tiles.size(), threads, [&](long number) {
    const WithoutSubnormals guard;
    (void)guard;
    const Tile& tile = tiles[number];
    move_rows(tables[tile.table], tile.first, tile.end, rule);
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

void recarena_sort_rows(RecarenaRowList* lists, int64_t count, int threads) {
  double rows = 0;
  for (long k = 0; k < (long)count; ++k) rows += (double)lists[k].count;
  parallel((long)count, worthwhile(threads, 64 * rows), [&](long k) { sort_rows(lists[k]); });
}

void recarena_adagrad(const RecarenaRowStep* tables, int64_t count, float rate, float l2, float eps, int threads) {
  run(tables, (long)count, threads, Adagrad{rate, l2, eps});
}

void recarena_ftrl(const RecarenaRowStep* tables, int64_t count, float alpha, float beta, float l1, float l2,
                   int threads) {
  run(tables, (long)count, threads, Ftrl{alpha, beta, l1, l2});
}

}  // extern "C"
