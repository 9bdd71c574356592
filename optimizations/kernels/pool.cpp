#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

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

class Pool {
 public:
  void run(long tiles, int threads, Task task, const void* context) {
    for (; workers_ < threads - 1; ++workers_) std::thread(&Pool::serve, this).detach();
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
    while (working_.load(std::memory_order_acquire) > 0) relax();
  }

  std::mutex busy;

 private:
  void drain(Task task, const void* context, long tiles) {
    for (long tile; (tile = next_.fetch_add(1, std::memory_order_relaxed)) < tiles;) task(context, tile);
  }

  void serve() {
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

  int workers_ = 0;
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

// Never destroyed: its threads may outlive main().
Pool& pool() {
  static Pool* instance = new Pool;
  return *instance;
}

struct Buffer {
  float* data = nullptr;
  long size = 0;
  ~Buffer() { std::free(data); }
};

}  // namespace

void parallel_tiles(long tiles, int threads, Task task, const void* context) {
  if (threads > 1 && tiles > 1) {
    std::unique_lock<std::mutex> mine(pool().busy, std::try_to_lock);
    if (mine.owns_lock()) return pool().run(tiles, threads < tiles ? threads : (int)tiles, task, context);
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
