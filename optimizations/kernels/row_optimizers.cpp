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

// A piece of a table's gradient: rows [count], the k-th at k times its stride, and vectors [.., width] at a stride of their
// own, since both may be columns of all that a side looks up. The k-th row's vector is the k-th, or the of[k]-th where
// bags have one for all of their values; a bag that is a mean shares it out, among offsets[bags * i + 1] -
// offsets[bags * i] of them. The pieces of a table follow one another; its entries are counted through them.
struct RecarenaRowPiece {
  const int64_t* rows;
  const float* vectors;
  int64_t row_stride, vector_stride, count;
  const int64_t *of, *offsets;
  int64_t bags;
};

// One table of `width` columns, its gradient of `count` entries, and order, starts, groups of their rows, as
// RecarenaRowList has them. Adagrad keeps the sum of squares in `first`; FTRL its z in `first` and its n in `second`.
struct RecarenaRowStep {
  int64_t first_piece, count, width;
  float *weights, *first, *second;
  const uint32_t *order, *starts;
  int64_t groups;
};

// A gradient of `count` entries of a table of `table_rows`. order [count]: the entries by rising row, those of one row in
// their own order. starts [count + 1]: where each of the `groups` distinct rows begins in it; after the last one, the end.
struct RecarenaRowList {
  int64_t first_piece, piece_count, count, table_rows;
  uint32_t *order, *starts;
  int64_t groups;
};

namespace {

using Step = RecarenaRowStep;
using List = RecarenaRowList;
using Piece = RecarenaRowPiece;

constexpr int DIGIT = 11;
constexpr long TILE = 16384;  // floats of gradient that are worth a task of their own

struct Tile {
  long table, first, end;  // distinct rows [first, end)
};

std::vector<uint32_t> rows_of(const List& list, const Piece* pieces) {
  std::vector<uint32_t> rows;
  rows.reserve(list.count);
  for (long p = 0; p < list.piece_count; ++p) {
    const Piece& piece = pieces[list.first_piece + p];
    for (int64_t k = 0; k < piece.count; ++k) rows.push_back((uint32_t)piece.rows[k * piece.row_stride]);
  }
  return rows;
}

// Least significant digit first: stable, and linear in the list.
void sort_rows(List& list, const Piece* pieces) {
  const uint32_t count = (uint32_t)list.count;
  const std::vector<uint32_t> rows = rows_of(list, pieces);
  std::vector<uint32_t> order(count), other(count), places(1u << DIGIT);
  for (uint32_t i = 0; i < count; ++i) order[i] = i;
  for (int shift = 0; shift == 0 || (list.table_rows - 1) >> shift; shift += DIGIT) {
    std::fill(places.begin(), places.end(), 0u);
    const auto digit = [&](uint32_t i) { return (rows[i] >> shift) & ((1u << DIGIT) - 1); };
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
    if (!i || rows[order[i]] != rows[order[i - 1]]) list.starts[list.groups++] = i;
    list.order[i] = order[i];
  }
  list.starts[list.groups] = count;
}

struct Entry {
  const Piece& piece;
  int64_t place;

  int64_t row() const { return piece.rows[place * piece.row_stride]; }
  // `lanes` columns of its vector from `column` on.
  vec vector(long column, long lanes) const {
    const int64_t at = piece.of ? piece.of[place] : place;
    const vec found = load_first(piece.vectors + at * piece.vector_stride + column, lanes);
    if (!piece.offsets) return found;
    return found / (float)(piece.offsets[at * piece.bags + 1] - piece.offsets[at * piece.bags]);
  }
};

// The k-th entry of the pieces from `first` on, of which a table has a few.
Entry entry(const Piece* first, int64_t k) {
  for (; k >= first->count; ++first) k -= first->count;
  return {*first, k};
}

template <class Rule>
void move_rows(const Step& step, const Piece* pieces, long first, long end, const Rule& rule) {
  const long width = step.width;
  pieces += step.first_piece;
  for (long group = first; group < end; ++group) {
    const uint32_t *begin = step.order + step.starts[group], *stop = step.order + step.starts[group + 1];
    const Entry own = entry(pieces, *begin);
    const int64_t at = own.row() * width;
    for (long j = 0; j < width; j += LANES) {
      const long lanes = std::min(LANES, width - j);
      vec gradient = own.vector(j, lanes);
      for (const uint32_t* next = begin + 1; next < stop; ++next)
        gradient = gradient + entry(pieces, *next).vector(j, lanes);
      rule(step, at + j, lanes, gradient);
    }
  }
}

template <class Rule>
void run(const Step* tables, long count, const Piece* pieces, int threads, const Rule& rule) {
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
    move_rows(tables[tile.table], pieces, tile.first, tile.end, rule);
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

void recarena_sort_rows(RecarenaRowList* lists, int64_t count, const RecarenaRowPiece* pieces, int threads) {
  double rows = 0;
  for (long k = 0; k < (long)count; ++k) rows += (double)lists[k].count;
  parallel((long)count, worthwhile(threads, 64 * rows), [&](long k) { sort_rows(lists[k], pieces); });
}

void recarena_adagrad(const RecarenaRowStep* tables, int64_t count, const RecarenaRowPiece* pieces, float rate, float l2,
                      float eps, int threads) {
  run(tables, (long)count, pieces, threads, Adagrad{rate, l2, eps});
}

void recarena_ftrl(const RecarenaRowStep* tables, int64_t count, const RecarenaRowPiece* pieces, float alpha, float beta,
                   float l1, float l2, int threads) {
  run(tables, (long)count, pieces, threads, Ftrl{alpha, beta, l1, l2});
}

}  // extern "C"
