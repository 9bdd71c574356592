// Keeps cores from halting: one thread on each, in the scheduling class of the caller, which is to be the idle one.

#include <cstdint>
#ifdef __linux__
#include <sched.h>

#include <thread>
#include <vector>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace {

void rest() {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();  // leaves the core's other hardware thread its units
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

void stay_on(int core) {
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(core, &own);
    if (sched_setaffinity(0, sizeof own, &own) != 0) return;
    for (;;) rest();
}

}  // namespace

// Comes back only where it may use none of the cores.
extern "C" void keep_awake(const int64_t* cores, int64_t count) {
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < count; ++i) threads.emplace_back(stay_on, static_cast<int>(cores[i]));
    for (auto& thread : threads) thread.join();
}
#else
extern "C" void keep_awake(const int64_t*, int64_t) {}
#endif
