// Keeps cores from halting: one thread on each, in the scheduling class of the caller, which is to be the idle one.

#include <cstdint>
#ifdef __linux__
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>
#include <vector>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t REST_NS = 300'000, LONGEST_REST_NS = 3'000'000, SOON_NS = 100'000, NAP_NS = 500'000;
constexpr int PAUSES = 64;

int64_t now_ns() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

void halt(int64_t ns) {
    const timespec time{0, static_cast<long>(ns)};
    nanosleep(&time, nullptr);
}

void pause() {
    for (int i = 0; i < PAUSES; ++i) {
#if defined(__x86_64__) || defined(__i386__)
        _mm_pause();  // leaves the core's other hardware thread its units
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }
}

// A hypervisor that grants so much processor time in each tenth of a second takes a core away for the whole of one when
// that is used up, and its own work counts: two cores of two that never halt lost a tenth of a second every four.
// So a share of all time is left, however much of it the systems under test take.
//
// While a query is computed there is no loop. The scheduler takes a core with a loop for a busy one: a second thread of a
// system was woken on the core of the first, and both had to make do with it until the next round of balancing, up to
// 12 ms later. Answers that come soon do not need a second thread.
void stay_on(int core, double rest, const std::atomic<int64_t>& in_flight) {
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(core, &own);
    if (sched_setaffinity(0, sizeof own, &own) != 0) return;
    for (int64_t rested = now_ns(), idle = rested;;) {
        pause();
        sched_yield();  // the idle class alone does not end the slice of whoever runs: a thread that wakes would wait for it
        const int64_t now = now_ns();
        const auto owed = static_cast<int64_t>(static_cast<double>(now - rested) * rest);
        if (in_flight == 0)
            idle = now;
        else if (now - idle >= SOON_NS) {
            while (in_flight != 0) halt(NAP_NS);
            rested = idle = now_ns();
            continue;
        }
        if (owed < REST_NS) continue;
        halt(std::min(owed, LONGEST_REST_NS));
        rested = now_ns();
    }
}

}  // namespace

// Comes back only where it may use none of the cores. rest: share of time, 0 to 1, in which each core may halt.
// in_flight: how many queries are, in memory that another process writes.
extern "C" void keep_awake(const int64_t* cores, int64_t count, double rest, const int64_t* in_flight) {
    static_assert(sizeof(std::atomic<int64_t>) == sizeof(int64_t) && std::atomic<int64_t>::is_always_lock_free);
    const auto& flight = *reinterpret_cast<const std::atomic<int64_t>*>(in_flight);
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < count; ++i) threads.emplace_back(stay_on, static_cast<int>(cores[i]), rest, std::cref(flight));
    for (auto& thread : threads) thread.join();
}
#else
extern "C" void keep_awake(const int64_t*, int64_t, double, const int64_t*) {}
#endif
