// A fully connected layer in training, y = x W^T + b with or without ReLU, and its way back: three large products.
//
// A task is a panel of columns: its operand is brought into the order of the product once, and stays in the second cache
// level for all rows. On the way back the gradient goes past the ReLU first, and is laid out for both products that read it.
#include <algorithm>
#include <cstring>
#include <vector>

#include "gemm_tile.h"
#include "pool.h"
#include "subnormals.h"
#include "trained_layer.h"

using namespace recarena;

// x [rows, inputs], y [rows, outputs].
struct RecarenaDenseCall {
  const float* x;
  int64_t rows;
  RecarenaDense layer;
  int64_t relu;
  float* y;
};

namespace {

using Call = RecarenaDenseCall;

constexpr long PANEL = TILE_VECTORS * LANES;
constexpr long SHARE = 64;            // rows of a task that goes past the ReLU
constexpr long LEAST_OUTPUTS = 96;    // of a task of the weights' gradient: it brings its panel of x into order first
constexpr double WORTH_A_THREAD = 1e5;  // vectors of multiply-adds

struct Columns {
  long first, count;
  long vectors() const { return round_up(count, LANES) / LANES; }
  long last() const { return count - (vectors() - 1) * LANES; }
};

// Columns in panels as even as can be, in whole vectors.
class Panels {
 public:
  explicit Panels(long columns) : columns_(columns), vectors_(round_up(columns, LANES) / LANES) {}

  long count() const { return (vectors_ + TILE_VECTORS - 1) / TILE_VECTORS; }
  Columns operator[](long panel) const {
    const long first = panel * vectors_ / count() * LANES, end = (panel + 1) * vectors_ / count() * LANES;
    return {first, std::min(end, columns_) - first};
  }

 private:
  long columns_, vectors_;
};

int threads_for(const Call& call, int threads) {
  const double work = (double)call.rows * call.layer.outputs * call.layer.inputs / LANES;
  return work < WORTH_A_THREAD ? 1 : threads;
}

void forward(const Call& call, const Columns& columns) {
  const RecarenaDense& l = call.layer;
  const long padded = columns.vectors() * LANES;
  float *weights = scratch(1, (l.inputs + 1) * padded), *bias = weights + l.inputs * padded;
  turn_strip(l.weight + columns.first * l.inputs, l.inputs, columns.count, l.inputs, padded, weights);
  copy_padded(l.bias + columns.first, columns.count, bias);
  float* y = call.y + columns.first;
  multiply_strip(FP32, weights, padded, columns.vectors(), columns.last(), l.inputs,
                 {call.x, l.inputs, call.rows, bias, 0, y, l.outputs, true});
  if (!call.relu) return;
  for (long r = 0; r < call.rows; ++r, y += l.outputs)
    for (long j = 0; j < columns.count; j += LANES) {
      const long lanes = std::min(LANES, columns.count - j);
      store_first(y + j, max(vec{}, load_first(y + j, lanes)), lanes);
    }
}

// The gradient dz of x W^T + b: its rows, and in blocks of at most ROWS outputs, which are the rows of the weights' tiles.
struct Slopes {
  const Call& call;
  float *rows, *blocks;  // of the calling thread
  std::vector<float> sums;

  explicit Slopes(const Call& all)
      : call(all),
        rows(all.relu ? scratch(2, all.rows * all.layer.outputs) : nullptr),
        blocks(scratch(3, all.rows * block_count() * ROWS)),
        sums(shares() * round_up(all.layer.outputs, LANES), 0.0f) {}

  long shares() const { return (call.rows + SHARE - 1) / SHARE; }
  long block_count() const { return (call.layer.outputs + ROWS - 1) / ROWS; }
  long block_begin(long block) const { return block * call.layer.outputs / block_count(); }
  const float* block(long number) const { return blocks + number * call.rows * ROWS; }

  // A share of the rows.
  void take(const float* dy, long share) {
    const long outputs = call.layer.outputs, first = share * SHARE, end = std::min<long>(call.rows, first + SHARE);
    const float* dz = dy;
    if (call.relu) {
      dz = rows;
      for (long k = first * outputs; k < end * outputs; k += LANES) {
        const long lanes = std::min(LANES, end * outputs - k);
        store_first(rows + k, select(load_first(call.y + k, lanes) > 0.0f, load_first(dy + k, lanes), vec{}), lanes);
      }
    }
    for (long b = 0; b < block_count(); ++b) {
      const long begin = block_begin(b), count = block_begin(b + 1) - begin;
      const float* from = dz + first * outputs + begin;
      float* to = blocks + (b * call.rows + first) * ROWS;
      if (count == ROWS)
        for (long r = first; r < end; ++r, to += ROWS, from += outputs) std::memcpy(to, from, ROWS * sizeof(float));
      else
        for (long r = first; r < end; ++r, to += ROWS, from += outputs)
          for (long j = 0; j < count; ++j) to[j] = from[j];
    }
    add_rows(dz + first * outputs, outputs, end - first, outputs, &sums[share * round_up(outputs, LANES)]);
  }

  void bias(float* to) const {
    for (long j = 0; j < call.layer.outputs; ++j) {
      float total = 0.0f;
      for (long share = 0; share < shares(); ++share) total += sums[share * round_up(call.layer.outputs, LANES) + j];
      to[j] = total;
    }
  }
};

// dx = dz W, some of its columns.
void inputs_back(const Call& call, const float* dz, const Columns& columns, float* dx) {
  const RecarenaDense& l = call.layer;
  const long padded = columns.vectors() * LANES;
  float *weights = scratch(1, (l.outputs + 1) * padded), *nothing = weights + l.outputs * padded;
  copy_strip(l.weight + columns.first, l.inputs, columns.count, l.outputs, padded, weights);
  std::fill_n(nothing, padded, 0.0f);
  multiply_strip(FP32, weights, padded, columns.vectors(), columns.last(), l.outputs,
                 {dz, l.outputs, call.rows, nothing, 0, dx + columns.first, l.inputs, true});
}

// dW = dz^T x, some of its columns, in the rows that are blocks [begin, end) of the outputs.
void weights_back(const Call& call, const Slopes& slopes, const Columns& columns, long begin, long end, float* dweight) {
  const long inputs = call.layer.inputs, padded = columns.vectors() * LANES;
  float *x = scratch(1, (call.rows + 1) * padded), *nothing = x + call.rows * padded;
  copy_strip(call.x + columns.first, inputs, columns.count, call.rows, padded, x);
  std::fill_n(nothing, padded, 0.0f);
  for (long block = begin; block < end; ++block) {
    const long row = slopes.block_begin(block), count = slopes.block_begin(block + 1) - row;
    sum_outer({slopes.block(block), x, nothing, dweight + row * inputs + columns.first, ROWS, padded, call.rows, 0, inputs,
               columns.last()},
              count, columns.vectors());
  }
}

}  // namespace

extern "C" {

void recarena_dense_forward(const RecarenaDenseCall* given, int threads) {
  const Panels panels(given->layer.outputs);
  parallel(panels.count(), threads_for(*given, threads), [&](long panel) {
    const WithoutSubnormals guard;
    (void)guard;
    forward(*given, panels[panel]);
  });
}

// From dy [rows, outputs]: dx [rows, inputs], unless it is null, dweight and dbias.
void recarena_dense_backward(const RecarenaDenseCall* given, const float* dy, float* dx, float* dweight, float* dbias,
                             int threads) {
  const Call& call = *given;
  threads = threads_for(call, threads);
  Slopes slopes(call);
  parallel(slopes.shares(), threads, [&](long share) { slopes.take(dy, share); });
  slopes.bias(dbias);
  const Panels panels(call.layer.inputs);
  const float* dz = call.relu ? slopes.rows : dy;
  const long parts = std::max<long>(1, std::min<long>(2L * threads, call.layer.outputs / LEAST_OUTPUTS));
  const long first = dx ? panels.count() : 0;
  parallel(first + parts * panels.count(), threads, [&](long task) {
    const WithoutSubnormals guard;
    (void)guard;
    if (task < first) return inputs_back(call, dz, panels[task], dx);
    const long part = (task - first) % parts, blocks = slopes.block_count();
    weights_back(call, slopes, panels[(task - first) / parts], part * blocks / parts, (part + 1) * blocks / parts, dweight);
  });
}

}  // extern "C"
