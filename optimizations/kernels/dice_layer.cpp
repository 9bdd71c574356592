// Dice after a product in training: rows of a batch that fit the caches column by column, so that a task has some columns
// of all rows, takes their mean and variance, and needs nothing of the others.
#include <algorithm>

#include "batch_dice.h"
#include "pool.h"
#include "subnormals.h"

using namespace recarena;

// x [rows, columns]; alpha, mean, inverse and squares (of deviations from the mean) [columns].
struct RecarenaDice {
  const float *x, *alpha;
  int64_t rows, columns;
  float *mean, *inverse, *squares;
};

namespace {

// One vector of a parameter, at the place of its columns.
struct Lane {
  float values[LANES] = {};

  Lane() = default;
  Lane(const float* from, long lanes) { store(values, load_first(from, lanes)); }
};

template <class F>
void over_columns(const RecarenaDice& call, int threads, const F& body) {
  const long tiles = (call.columns + LANES - 1) / LANES;
  parallel(tiles, worthwhile(threads, 30.0 * call.rows * tiles), [&](long tile) {
    const WithoutSubnormals guard;
    (void)guard;
    body(tile * LANES, std::min<long>(LANES, call.columns - tile * LANES));
  });
}

}  // namespace

extern "C" {

// Fills mean, inverse, squares and y.
void recarena_dice_forward(const RecarenaDice* given, float* y, int threads) {
  const RecarenaDice& call = *given;
  over_columns(call, threads, [&](long j, long lanes) {
    Moments moments(LANES);
    moments.add(call.x + j, call.columns, call.rows, lanes);
    const std::vector<float> inverse = inverse_deviation(moments);
    const Lane alpha(call.alpha + j, lanes);
    BatchDice{alpha.values, moments.mean.data(), inverse.data(), lanes, call.columns}.forward(call.x + j, call.rows,
                                                                                              y + j);
    std::copy_n(moments.mean.begin(), lanes, call.mean + j);
    std::copy_n(inverse.begin(), lanes, call.inverse + j);
    std::copy_n(moments.squares.begin(), lanes, call.squares + j);
  });
}

// From what the forward pass has filled and the gradient dy: dx [rows, columns], dalpha [columns].
void recarena_dice_backward(const RecarenaDice* given, const float* dy, float* dx, float* dalpha, int threads) {
  const RecarenaDice& call = *given;
  over_columns(call, threads, [&](long j, long lanes) {
    const Lane alpha(call.alpha + j, lanes), mean(call.mean + j, lanes), inverse(call.inverse + j, lanes);
    const BatchDice dice{alpha.values, mean.values, inverse.values, lanes, call.columns};
    BackSums sums(LANES);
    sums.add(dice, call.x + j, dy + j, call.rows);
    for (long k = 0; k < lanes; ++k) sums.slope[k] /= (float)call.rows, sums.scaled[k] /= (float)call.rows;
    dice.backward(call.x + j, call.rows, sums.slope.data(), sums.scaled.data(), dy + j, dx + j);
    std::copy_n(sums.alpha.begin(), lanes, dalpha + j);
  });
}

}  // extern "C"
