// A whole model in one call: raw columns or their payload to scores, block after block, in memory that the thread keeps.
#include <algorithm>
#include <cstring>
#include <vector>

#include "blocks.h"
#include "payload.h"
#include "pool.h"
#include "vec.h"

using namespace recarena;

extern "C" {

enum { USERS = 0, SAMPLES = 1, BEHAVIOURS = 2 };  // rows of a register; behaviours: users times steps
enum { COLUMNS = 0, FC = 1, FC_SPLIT = 2, INTERACTION = 3, GRU = 4, ATTENTION = 5, AUGRU = 6 };
// Registers that the first two blocks and the wide part write; a program's own ones follow.
enum { USER = 0, ITEM = 1, HISTORY = 2, SUMMED = 3, USER_DENSE = 4, ITEM_DENSE = 5, WIDE = 6 };

// Floats [rows, width]; width -1: as many as the padded history has steps.
struct RecarenaRegister {
  int64_t rows, width;
};

// Columns [first, first + width) of a register, read at the sample's user (`of_user`), divided by the length of the
// user's history, at least 1 (`mean`), and multiplied by columns from `factor_first` on of register `factor` (-1: none).
struct RecarenaPart {
  int64_t source, first, width, of_user, mean, factor, factor_first, factor_of_user;
};

// One block: registers in and out. COLUMNS: parts side by side. sizes: count, width and precision of an interaction.
struct RecarenaStep {
  int64_t kind;
  const void* handle;
  int64_t out, a, b, first_part, part_count, sizes[3];
};

// wide may be null. raw_dense, raw_ids: columns that a batch must have at least. expand_first: the user side is copied per
// sample before anything else. logit: its register.
struct RecarenaProgram {
  const void *features, *embedding, *wide;
  int64_t ids[2], dense[2], bags[2], raw_dense[2], raw_ids[2], history_width, crosses, expand_first, logit;
  int64_t register_count, part_count, step_count;
  const RecarenaRegister* registers;
  const RecarenaPart* parts;
  const RecarenaStep* steps;
};

// Where payloads of up to `capacity` bytes will lie, and where their scores go: at most `room`.
struct RecarenaBinding {
  const void *program, *payload;
  int64_t capacity;
  float* scores;
  int64_t room, threads;
};
}

namespace {

struct Program {
  RecarenaProgram shape;
  std::vector<RecarenaRegister> registers;
  std::vector<RecarenaPart> parts;
  std::vector<RecarenaStep> steps;
};

// The memory of one call: registers, then the integers between features and embedding.
class Run {
 public:
  Run(const Program& program, const RecarenaQuery& query, int threads)
      : program_(program), query_(query), threads_(threads), shape_(program.shape) {
    index_ = shape_.expand_first ? query.user_of : nullptr;
    user_of_ = shape_.expand_first ? nullptr : query.user_of;
    samples_ = query.samples, users_ = shape_.expand_first ? query.samples : query.users;
    int64_t sizes[2];
    recarena_features_sizes(index_, users_, query.history_offsets, query.sides[0].bag_offsets, shape_.bags[0], sizes);
    steps_ = sizes[0];
    values_[0] = sizes[1], values_[1] = query.sides[1].bag_offsets[samples_ * shape_.bags[1]];
    allocate();
  }

  bool run() {
    if (!features()) return false;
    embedding();
    for (const RecarenaStep& step : program_.steps) block(step);
    score();
    return true;
  }

 private:
  long rows(int64_t kind) const { return kind == USERS ? users_ : kind == SAMPLES ? samples_ : users_ * steps_; }
  long width(int64_t r) const { return program_.registers[r].width < 0 ? steps_ : program_.registers[r].width; }
  long count(int side) const { return side == 0 ? users_ : samples_; }

  void allocate() {
    static thread_local std::vector<long> at;
    at.clear();
    long total = 0;
    const auto take = [&](long floats) { at.push_back(total), total += (floats + 15) / 16 * 16; };
    for (size_t r = 0; r < program_.registers.size(); ++r)
      take(rows(program_.registers[r].rows) * width((int64_t)r) + LANES);
    for (int s = 0; s < 2; ++s) {
      take(2 * count(s) * shape_.ids[s]), take(2 * values_[s]);
      take(s == 0 && index_ ? 2 * (users_ * shape_.bags[0] + 1) : 0);
    }
    take(2 * users_ * steps_ * shape_.history_width), take(2 * users_), take(2 * samples_ * shape_.crosses);
    float* memory = scratch(7, total);
    size_t next = 0;
    const auto give = [&] { return memory + at[next++]; };
    const auto give_integers = [&] { return reinterpret_cast<int64_t*>(give()); };
    at_.resize(program_.registers.size());
    for (float*& r : at_) r = give();
    for (int s = 0; s < 2; ++s) {
      ids_[s] = give_integers(), bag_rows_[s] = give_integers();
      int64_t* offsets = give_integers();
      offsets_[s] = s == 0 && index_ ? offsets : const_cast<int64_t*>(query_.sides[s].bag_offsets);
    }
    padded_ = give_integers(), lengths_ = give_integers(), crosses_ = give_integers();
  }

  bool features() {
    RecarenaFeaturesCall call{};
    for (int s = 0; s < 2; ++s) {
      const RecarenaRawSide& raw = query_.sides[s];
      call.sides[s] = {raw.dense, raw.ids, raw.bag_values, raw.bag_offsets, s == 0 ? index_ : nullptr,
                       raw.dense_stride, raw.id_stride, count(s), at_[s == 0 ? USER_DENSE : ITEM_DENSE],
                       ids_[s], bag_rows_[s], offsets_[s]};
    }
    call.history = query_.history, call.history_offsets = query_.history_offsets, call.history_index = index_;
    call.user_of = user_of_, call.history_rows = users_, call.steps = steps_, call.samples = samples_;
    call.history_out = padded_, call.lengths_out = lengths_, call.crosses_out = crosses_, call.fault = query_.fault;
    return recarena_features_run(shape_.features, &call) == 0;
  }

  void embedding() {
    const RecarenaLookup lookups[3] = {{ids_[0], bag_rows_[0], offsets_[0], users_, at_[USER]},
                                       {ids_[1], bag_rows_[1], offsets_[1], samples_, at_[ITEM]},
                                       {padded_, nullptr, nullptr, users_ * steps_, at_[HISTORY]}};
    const RecarenaHistory history{lengths_, steps_, at_[SUMMED]};
    recarena_embedding_run(shape_.embedding, lookups, &history, threads_);
    if (shape_.wide)
      recarena_wide_run(shape_.wide, lookups, at_[USER_DENSE], at_[ITEM_DENSE], crosses_, user_of_, at_[WIDE]);
  }

  void block(const RecarenaStep& step) {
    float* out = at_[step.out];
    const float *a = step.a < 0 ? nullptr : at_[step.a], *b = step.b < 0 ? nullptr : at_[step.b];
    const long rows_out = rows(program_.registers[step.out].rows);
    switch (step.kind) {
      case COLUMNS: return columns(step, rows_out, out);
      case FC: return recarena_fc_run(step.handle, a, rows_out, out, threads_);
      case FC_SPLIT: return recarena_fc_split_run(step.handle, a, users_, b, user_of_, samples_, out, threads_);
      case INTERACTION:
        return recarena_interaction_run(a, samples_, step.sizes[0], step.sizes[1], out, (int)step.sizes[2], threads_);
      case GRU: return recarena_gru_run(step.handle, a, lengths_, users_, steps_, out, threads_);
      case ATTENTION:
        return recarena_attention_run(step.handle, a, b, lengths_, user_of_, samples_, steps_, out, threads_);
      case AUGRU:
        return recarena_augru_run(step.handle, a, lengths_, user_of_, b, users_, samples_, steps_, out, threads_);
    }
  }

  void columns(const RecarenaStep& step, long rows_out, float* out) const {
    const long stride = width(step.out);
    for (int64_t p = step.first_part; p < step.first_part + step.part_count; out += program_.parts[p++].width) {
      const RecarenaPart& part = program_.parts[p];
      const long from_stride = width(part.source), factor_stride = part.factor < 0 ? 0 : width(part.factor);
      for (long r = 0; r < rows_out; ++r) {
        const long user = user_of_ && part.of_user ? user_of_[r] : r;
        const float* from = at_[part.source] + user * from_stride + part.first;
        float* to = out + r * stride;
        if (part.factor >= 0) {
          const long row = user_of_ && part.factor_of_user ? user_of_[r] : r;
          const float* factor = at_[part.factor] + row * factor_stride + part.factor_first;
          for (long k = 0; k < part.width; ++k) to[k] = from[k] * factor[k];
        } else if (part.mean) {
          const float length = (float)std::max<int64_t>(lengths_[user], 1);
          for (long k = 0; k < part.width; ++k) to[k] = from[k] / length;
        } else {
          std::memcpy(to, from, part.width * sizeof(float));
        }
      }
    }
  }

  void score() const {
    const float *logit = at_[shape_.logit], *wide = shape_.wide ? at_[WIDE] : nullptr;
    for (long n = 0; n < samples_; n += LANES) {
      vec x = load(logit + n);  // a register ends a vector past its last row
      if (wide) x = x + load(wide + n);
      store_first(query_.scores + n, sigmoid(x), std::min(LANES, samples_ - n));
    }
  }

  const Program& program_;
  const RecarenaQuery& query_;
  const int threads_;
  const RecarenaProgram& shape_;
  const int64_t *index_, *user_of_;
  long users_, samples_, steps_, values_[2];
  std::vector<float*> at_;
  int64_t *ids_[2], *bag_rows_[2], *offsets_[2], *padded_, *lengths_, *crosses_;
};

// Whether the program can read a batch of these columns; a side without rows has any.
bool readable(const RecarenaProgram& shape, const RecarenaQuery& query, const RecarenaColumns& columns) {
  for (int s = 0; s < 2; ++s) {
    const bool fewer = columns.dense[s] < shape.raw_dense[s] || columns.ids[s] < shape.raw_ids[s];
    const bool other = fewer || (shape.bags[s] && columns.bags[s] != shape.bags[s]);
    if (other && (s == 0 ? query.users : query.samples)) return false;
  }
  return !shape.history_width || columns.history == shape.history_width;
}

}  // namespace

extern "C" {

// The blocks' handles must outlive the program.
void* recarena_program_new(const RecarenaProgram* shape) {
  return new Program{*shape,
                     {shape->registers, shape->registers + shape->register_count},
                     {shape->parts, shape->parts + shape->part_count},
                     {shape->steps, shape->steps + shape->step_count}};
}

void recarena_program_free(void* handle) { delete static_cast<Program*>(handle); }

// 0, or 1 with the query's fault set.
int recarena_program_run(const void* handle, const RecarenaQuery* query, int threads) {
  Run run(*static_cast<const Program*>(handle), *query, threads);
  return run.run() ? 0 : 1;
}

// Scores the payload of `size` bytes that lies where it was bound to. Returns the samples, or minus what is wrong
// (payload.h): scores are unspecified then.
int64_t recarena_program_score(const RecarenaBinding* binding, int64_t size) {
  const auto& program = *static_cast<const Program*>(binding->program);
  RecarenaQuery query;
  RecarenaColumns columns;
  const int wrong = size > binding->capacity ? WRONG_SIZE : recarena_payload_read(binding->payload, size, &query, &columns);
  if (wrong) return -wrong;
  if (!readable(program.shape, query, columns)) return -OTHER_COLUMNS;
  if (query.samples > binding->room) return -NO_ROOM;
  int64_t fault[2];
  query.scores = binding->scores, query.fault = fault;
  return Run(program, query, (int)binding->threads).run() ? query.samples : -OUTSIDE_ITS_TABLE;
}

}  // extern "C"
