// A whole model as steps over registers, and how its operators are spread over threads.
#pragma once
#include <atomic>
#include <cstdint>
#include <vector>

#include "payload.h"
#include "pool.h"

extern "C" {

enum { USERS = 0, SAMPLES = 1, BEHAVIOURS = 2 };  // rows of a register; behaviours: users times steps
enum { COLUMNS = 0, FC = 1, FC_SPLIT = 2, INTERACTION = 3, GRU = 4, ATTENTION = 5, AUGRU = 6 };
// Registers that the first two blocks and the wide part write; a program's own ones follow.
enum { USER = 0, ITEM = 1, HISTORY = 2, SUMMED = 3, USER_DENSE = 4, ITEM_DENSE = 5, WIDE = 6 };
// Operators: what a schedule may move. The steps follow the wide part; the first and the last one (scores) stay.
enum { ENGINEER = 0, LOOK_UP = 1, WIDE_PART = 4, STEPS = 5 };

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

// Operators [first, first + count) of a schedule's list, once the tasks of the bits of `before` are done.
struct RecarenaTask {
  int64_t first, count, before;
};

// Where payloads of up to `capacity` bytes will lie, and where their scores go: at most `room`.
struct RecarenaBinding {
  const void *program, *payload;
  int64_t capacity;
  float* scores;
  int64_t room, threads;
};
}

namespace recarena {

// Of queries of up to `samples` samples. Without tasks: all operators in order, each on `threads` threads.
struct Schedule {
  int64_t samples;
  int threads;
  std::vector<RecarenaTask> tasks;
  std::vector<int64_t> operators;
};

struct Program {
  RecarenaProgram shape;
  std::vector<RecarenaRegister> registers;
  std::vector<RecarenaPart> parts;
  std::vector<RecarenaStep> steps;
  std::vector<Schedule> schedules;

  // The first one for so many samples; null: in order, on the caller's threads.
  const Schedule* schedule(int64_t samples) const {
    for (const Schedule& schedule : schedules)
      if (samples <= schedule.samples) return &schedule;
    return nullptr;
  }

  // Whether it can read a batch of these columns; a side without rows has any.
  bool reads(const RecarenaQuery& query, const RecarenaColumns& columns) const {
    for (int s = 0; s < 2; ++s) {
      const bool fewer = columns.dense[s] < shape.raw_dense[s] || columns.ids[s] < shape.raw_ids[s];
      const bool other = fewer || (shape.bags[s] && columns.bags[s] != shape.bags[s]);
      if (other && (s == 0 ? query.users : query.samples)) return false;
    }
    return !shape.history_width || columns.history == shape.history_width;
  }
};

// Tasks of one query that are done, as bits. A task waits for its predecessors only, and they were taken before it.
class Finished {
 public:
  void await(int64_t tasks) const {
    for (int spin = 0; (done_.load(std::memory_order_acquire) & tasks) != tasks; ++spin) wait_a_moment(spin);
  }
  void add(long task) { done_.fetch_or(int64_t(1) << task, std::memory_order_release); }

 private:
  std::atomic<int64_t> done_{0};
};

}  // namespace recarena
