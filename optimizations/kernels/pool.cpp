#include "pool.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

namespace recarena {
namespace {

constexpr int SPINS = 4000;  // some tens of microseconds: blocks of one model follow each other faster than that

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Whether this thread works on tiles already, its own or another's: what it calls meanwhile gets no helpers.
thread_local bool inside = false;

// The helpers of one thread; they end with it.
class Pool {
 public:
  ~Pool() {
    if (getpid() != process_) {  // a fork has no helpers to wait for
      for (std::thread& helper : helpers_) helper.detach();
      return;
    }
    {
      std::lock_guard<std::mutex> hold(gate_);
      ending_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
  }

  void run(long tiles, int threads, Task task, const void* context) {
    while ((int)helpers_.size() < threads - 1) helpers_.emplace_back(&Pool::serve, this);
    {
      std::lock_guard<std::mutex> hold(gate_);
      tiles_ = tiles, task_ = task, context_ = context;
      next_.store(0, std::memory_order_relaxed);
      places_ = threads - 1, working_.store(0, std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
    }
    if (sleeping_.load() > 0) wake_.notify_all();
    drain(task, context, tiles);
    {
      std::lock_guard<std::mutex> hold(gate_);
      places_ = 0;  // who wakes later finds nothing to join
    }
    for (int spin = 0; working_.load(std::memory_order_acquire) > 0; ++spin) wait_a_moment(spin);
  }

 private:
  void drain(Task task, const void* context, long tiles) {
    for (long tile; (tile = next_.fetch_add(1, std::memory_order_relaxed)) < tiles;) task(context, tile);
  }

  void serve() {
    inside = true;
    unsigned seen = 0;
    for (;;) {
      for (int spin = 0; generation_.load(std::memory_order_acquire) == seen && spin < SPINS; ++spin) relax();
      std::unique_lock<std::mutex> hold(gate_);
      if (generation_.load() == seen) {
        ++sleeping_;
        wake_.wait(hold, [&] { return generation_.load() != seen; });
        --sleeping_;
      }
      seen = generation_.load();
      if (ending_) return;
      if (places_ == 0) continue;
      --places_;
      working_.fetch_add(1);
      const Task task = task_;
      const void* context = context_;
      const long tiles = tiles_;
      hold.unlock();
      drain(task, context, tiles);
      working_.fetch_sub(1, std::memory_order_release);
    }
  }

  const pid_t process_ = getpid();
  std::vector<std::thread> helpers_;
  bool ending_ = false;
  std::mutex gate_;
  std::condition_variable wake_;
  std::atomic<unsigned> generation_{0};
  std::atomic<long> next_{0};
  std::atomic<int> working_{0}, sleeping_{0};
  int places_ = 0;
  long tiles_ = 0;
  Task task_ = nullptr;
  const void* context_ = nullptr;
};

// Threads that work on tiles now, callers among them. Callers that would be more than the cores work alone, lest they
// wait for helpers that wait for a core; one caller may always have the threads that it asks for.
std::atomic<int> engaged{0};

bool engage(int threads) {
  static const int cores = std::max(1, (int)std::thread::hardware_concurrency());
  int others = engaged.load(std::memory_order_relaxed);
  do {
    if (others > 0 && others + threads > cores) return false;
  } while (!engaged.compare_exchange_weak(others, others + threads, std::memory_order_relaxed));
  return true;
}

// Threads of an OpenMP runtime that the framework works with: while they wait for its next region, they keep their cores
// busy for milliseconds, and helpers beside them would share those cores. Null: helpers of our own.
typedef void (*OpenmpParallel)(void (*body)(void*), void* context, unsigned threads, unsigned flags);
std::atomic<OpenmpParallel> openmp{nullptr};

struct Region {
  std::atomic<long> next{0};
  long tiles;
  Task task;
  const void* context;
};

void drain_region(void* given) {
  Region& region = *static_cast<Region*>(given);
  inside = true;
  for (long tile; (tile = region.next.fetch_add(1, std::memory_order_relaxed)) < region.tiles;)
    region.task(region.context, tile);
  inside = false;
}

struct Buffer {
  float* data = nullptr;
  long size = 0;
  ~Buffer() { std::free(data); }
};

}  // namespace

void wait_a_moment(int spin) { spin < SPINS ? relax() : std::this_thread::yield(); }

void parallel_tiles(long tiles, int threads, Task task, const void* context) {
  threads = (int)std::min<long>(threads, tiles);
  if (threads > 1 && !inside && engage(threads)) {
    if (const OpenmpParallel team = openmp.load(std::memory_order_relaxed)) {
      Region region;
      region.tiles = tiles, region.task = task, region.context = context;
      team(drain_region, &region, (unsigned)threads, 0);
    } else {
      static thread_local Pool pool;
      inside = true;
      pool.run(tiles, threads, task, context);
      inside = false;
    }
    engaged.fetch_sub(threads, std::memory_order_relaxed);
    return;
  }
  for (long tile = 0; tile < tiles; ++tile) task(context, tile);
}

float* scratch(int slot, long floats) {
  static thread_local Buffer buffers[8];
  Buffer& buffer = buffers[slot];
  if (buffer.size < floats) {
    std::free(buffer.data);
    buffer.size = (floats + floats / 4 + 1023) / 1024 * 1024;
    buffer.data = static_cast<float*>(std::aligned_alloc(64, buffer.size * sizeof(float)));
  }
  return buffer.data;
}

}  // namespace recarena

extern "C" {

// From now on tiles are shared out among the threads of the OpenMP runtime whose GOMP_parallel this is.
void recarena_use_openmp(void* gomp_parallel) {
  recarena::openmp.store(reinterpret_cast<recarena::OpenmpParallel>(gomp_parallel), std::memory_order_relaxed);
}

}  // extern "C"
