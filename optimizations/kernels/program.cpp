// A whole model in one call: raw columns or their payload to scores, block after block, in memory that the thread keeps.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "blocks.h"
#include "pool.h"
#include "program.h"
#include "vec.h"

using namespace recarena;

namespace {

// The memory of one call: registers, then integers of the features.
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

  // False: the query has a fault.
  bool run() {
    if (!features()) return false;
    const Schedule* schedule = program_.schedule(samples_);
    if (schedule) threads_ = schedule->threads;
    if (schedule && !schedule->tasks.empty()) {
      tasks(*schedule);
    } else {
      look_up(0, 3);
      wide();
      for (const RecarenaStep& step : program_.steps) block(step);
    }
    score();
    return true;
  }

  // The same in order, with the time of every operator.
  bool timed(int64_t* ns) {
    auto before = std::chrono::steady_clock::now();
    for (long op = ENGINEER; op <= STEPS + (long)program_.steps.size(); ++op) {
      if (!operate(op)) return false;
      const auto after = std::chrono::steady_clock::now();
      ns[op] = std::chrono::nanoseconds(after - before).count(), before = after;
    }
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

  // Every operator on one thread, several at a time. Tasks are taken in their order, which no predecessor is behind.
  void tasks(const Schedule& schedule) {
    Finished finished;
    threads_ = 1;
    parallel((long)schedule.tasks.size(), schedule.threads, [&](long t) {
      const RecarenaTask& task = schedule.tasks[t];
      finished.await(task.before);
      for (int64_t k = task.first; k < task.first + task.count; ++k) operate(schedule.operators[k]);
      finished.add(t);
    });
  }

  bool operate(long op) {
    if (op == ENGINEER) return features();
    if (op < WIDE_PART) look_up(op - LOOK_UP, op - LOOK_UP + 1);
    else if (op == WIDE_PART) wide();
    else if (op < STEPS + (long)program_.steps.size()) block(program_.steps[op - STEPS]);
    else score();
    return true;
  }

  // Of the sides [first, end): user, item, history.
  void look_up(long first, long end) const {
    RecarenaLookup lookups[3] = {{ids_[0], bag_rows_[0], offsets_[0], users_, at_[USER]},
                                 {ids_[1], bag_rows_[1], offsets_[1], samples_, at_[ITEM]},
                                 {padded_, nullptr, nullptr, users_ * steps_, at_[HISTORY]}};
    for (long s = 0; s < 3; ++s)
      if (s < first || s >= end) lookups[s].count = 0;
    const RecarenaHistory history{lengths_, steps_, at_[SUMMED]};
    recarena_embedding_run(shape_.embedding, lookups, &history, threads_);
  }

  void wide() const {
    const RecarenaLookup lookups[2] = {{ids_[0], bag_rows_[0], offsets_[0], users_, nullptr},
                                       {ids_[1], bag_rows_[1], offsets_[1], samples_, nullptr}};
    if (shape_.wide)
      recarena_wide_run(shape_.wide, lookups, at_[USER_DENSE], at_[ITEM_DENSE], crosses_, user_of_, at_[WIDE]);
  }

  void block(const RecarenaStep& step) const {
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
  int threads_;
  const RecarenaProgram& shape_;
  const int64_t *index_, *user_of_;
  long users_, samples_, steps_, values_[2];
  std::vector<float*> at_;
  int64_t *ids_[2], *bag_rows_[2], *offsets_[2], *padded_, *lengths_, *crosses_;
};

}  // namespace

extern "C" {

// The blocks' handles must outlive the program.
void* recarena_program_new(const RecarenaProgram* shape) {
  return new Program{*shape,
                     {shape->registers, shape->registers + shape->register_count},
                     {shape->parts, shape->parts + shape->part_count},
                     {shape->steps, shape->steps + shape->step_count},
                     {}};
}

void recarena_program_free(void* handle) { delete static_cast<Program*>(handle); }

// 0, or 1 with the query's fault set.
int recarena_program_run(const void* handle, const RecarenaQuery* query, int threads) {
  Run run(*static_cast<const Program*>(handle), *query, threads);
  return run.run() ? 0 : 1;
}

// How queries of up to `samples` samples run, beyond those of the schedules before; not while queries run.
// At most 63 tasks, each behind its predecessors; together they name every operator but the first and the last one.
void recarena_program_schedule(void* handle, int64_t samples, int threads, const RecarenaTask* tasks, int64_t count,
                               const int64_t* operators) {
  const int64_t named = count ? tasks[count - 1].first + tasks[count - 1].count : 0;
  auto& schedules = static_cast<Program*>(handle)->schedules;
  schedules.push_back({samples, threads, {tasks, tasks + count}, {operators, operators + named}});
}

// Nanoseconds of every operator, in order, each on `threads` threads. 0, or 1 with the query's fault set.
int recarena_program_time(const void* handle, const RecarenaQuery* query, int threads, int64_t* ns) {
  return Run(*static_cast<const Program*>(handle), *query, threads).timed(ns) ? 0 : 1;
}

// Scores the `size` bytes at their place. Returns the samples, or minus what is wrong (payload.h), scores unspecified.
int64_t recarena_program_score(const RecarenaBinding* binding, int64_t size) {
  const auto& program = *static_cast<const Program*>(binding->program);
  RecarenaQuery query;
  RecarenaColumns columns;
  const int wrong = size > binding->capacity ? WRONG_SIZE : recarena_payload_read(binding->payload, size, &query, &columns);
  if (wrong) return -wrong;
  if (!program.reads(query, columns)) return -OTHER_COLUMNS;
  if (query.samples > binding->room) return -NO_ROOM;
  int64_t fault[2];
  query.scores = binding->scores, query.fault = fault;
  return Run(program, query, (int)binding->threads).run() ? query.samples : -OUTSIDE_ITS_TABLE;
}

}  // extern "C"
