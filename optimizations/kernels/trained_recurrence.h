// What both directions of a recurrent layer in training share (trained_recurrence.cpp, trained_recurrence_back.cpp).
//
// Sequences are independent. They are sorted, longest first, and cut into blocks that are tasks; a block goes through its
// steps in the cache, and of the padding nothing is read. Units lie in the lanes of vectors.
#pragma once
#include <algorithm>
#include <vector>

#include "pool.h"
#include "subnormals.h"
#include "trained_layer.h"
#include "unit_vectors.h"

// x [samples, steps, width], lengths [samples], each within [0, steps]. attention [samples, steps]: a of the AUGRU
// h' = h + a u (c - h); null: a GRU, h' = h + (1 - z) (c - h), whose z stands in the place of u. of_input: 3 hidden units
// of `width`, of_state: of `hidden`; reset, update, candidate. kept [real steps, KEPT, hidden in whole vectors]: filled on
// the way forward, read on the way back. states [samples, steps, hidden], 0 past the length, and last [samples, hidden],
// 0 for no step: either may be null.
struct RecarenaRecurrence {
  const float *x, *attention;
  const int64_t* lengths;
  int64_t samples, steps, width, hidden;
  RecarenaDense of_input, of_state;
  float *kept, *states, *last;
};

// states and last: what comes back, as above. x, attention: as above, 0 past the length; weights and biases as above.
struct RecarenaRecurrenceGradients {
  const float *states, *last;
  float *x, *attention, *input_weight, *input_bias, *state_weight, *state_bias;
};

namespace recarena {

constexpr long BLOCK = 2 * ROWS;  // sequences of a task: their states stay in the first cache level
constexpr long CHUNK = 4 * BLOCK;  // rows that are multiplied at once, of as many steps as fit

// What a step keeps, each [hidden] in whole vectors. FROM_STATE: U_c h + b of the candidate. BEFORE: the state it began with.
enum Kept { RESET, UPDATE, CANDIDATE, FROM_STATE, BEFORE, KEPT };

struct Recurrence {
  const RecarenaRecurrence& call;
  long hidden, padded;  // units, and in whole vectors
  float sign;           // of the update gate's weights: 1 - sigmoid(s) = sigmoid(-s) makes a GRU an AUGRU of attention 1
  std::vector<long> order;  // samples, longest first
  std::vector<long> first;  // real steps before each block

  explicit Recurrence(const RecarenaRecurrence& given);

  long blocks() const { return (long)first.size() - 1; }
  long length(long sequence) const { return (long)call.lengths[order[sequence]]; }
  double work() const { return 6.0 * first.back() * hidden * (call.width + hidden) / LANES; }
  float score(long sequence, long t) const { return call.attention ? call.attention[order[sequence] * call.steps + t] : 1.0f; }
  long at(long sequence, long t) const { return order[sequence] * call.steps + t; }
  float* kept(long place) const { return call.kept + place * KEPT * padded; }
};

// The sequences of a block that run at a step, its first ones, and the steps in chunks.
class Block {
 public:
  Block(const Recurrence& all, long number);

  long begin, count, steps;  // sequences [begin, begin + count), steps of the longest one
  long place;                // of its first step in `kept`
  long running(long t) const { return running_[t]; }
  // Steps before t, within the block.
  long before(long t) const { return before_[t]; }
  // Where the chunk that begins at step t ends, and where the one that ends before t begins.
  long chunk_end(long t) const;
  long chunk_begin(long t) const;

 private:
  std::vector<long> running_, before_;
};

// x of the chunk's steps [t, end), as rows of whole vectors.
void gather(const Recurrence& all, const Block& block, long t, long end, long padded, float* to);

// The rows [hidden, inputs] of one gate, times `sign`.
void copy_gate(const RecarenaDense& layer, long gate, long hidden, float sign, float* to);

}  // namespace recarena
