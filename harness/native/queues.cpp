// First-in-first-out queues on given traces. Each query goes through the floating-point steps of
// harness/estimate/fifo.py and twin.py, so the results are the same to the last bit: nothing may be reassociated or
// contracted (-ffp-contract=off). What is gained is that eight traces run side by side, in registers.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t LANES = 8, TILE = 32;
typedef double Lanes __attribute__((vector_size(8 * LANES), aligned(8), may_alias));  // as numpy's memory is
typedef int64_t Places __attribute__((vector_size(8 * LANES)));

constexpr double NEVER = -std::numeric_limits<double>::infinity();

Lanes all(double value) { return value - Lanes{}; }

Lanes later(Lanes a, Lanes b) { return a > b ? a : b; }

// Divides by one number, rounded as a division is. Twice corrected, the product with the reciprocal is the quotient to
// the last bit (Markstein 1990, IBM J. Res. Dev. 34: a faithful quotient, its exact remainder, the rounded reciprocal).
class Divisor {
  public:
    explicit Divisor(double by) : by_(by), reciprocal_(1.0 / by) {}

    Lanes under(Lanes value) const {
#if defined(__AVX512F__)
        const __m512d a = (__m512d)value, by = _mm512_set1_pd(by_), reciprocal = _mm512_set1_pd(reciprocal_);
        __m512d quotient = _mm512_mul_pd(a, reciprocal);
        for (int i = 0; i < 2; ++i)
            quotient = _mm512_fmadd_pd(_mm512_fnmadd_pd(by, quotient, a), reciprocal, quotient);
        return (Lanes)quotient;
#else
        return value / by_;
#endif
    }

  private:
    double by_, reciprocal_;
};

// One worker: Lindley's recursion, unrolled into a cumulative sum and maximum.
class OneWorker {
  public:
    explicit OneWorker(int64_t) {}

    Lanes latency(Lanes arrival, Lanes service) {
        busy_ += service;
        latest_ = later(arrival - (busy_ - service), latest_);
        return busy_ + latest_ - arrival;
    }

  private:
    Lanes busy_ = {}, latest_ = all(NEVER);
};

// Several workers: when each is free, in order; a query goes to the first one.
class Workers {
  public:
    explicit Workers(int64_t count) : free_(count, all(NEVER)) {}

    Lanes latency(Lanes arrival, Lanes service) {
        const Lanes end = later(free_[0], arrival) + service;
        Lanes last = end;
        for (size_t w = 1; w < free_.size(); ++w) {
            const Lanes other = free_[w];
            free_[w - 1] = other < last ? other : last;
            last = other < last ? last : other;
        }
        free_.back() = last;
        return end - arrival;
    }

  private:
    std::vector<Lanes> free_;
};

// Up to eight rows of a matrix, `count` columns of them from one on, so that a column is one vector; absent rows are 0.
class Tile {
  public:
    void read(const double* rows, int64_t stride, int64_t width, int64_t count) {
        for (int64_t c = 0; c < width; ++c)
            for (int64_t k = 0; k < count; ++k) lane(k)[c] = rows[c * stride + k];
        for (int64_t c = width; c < LANES; ++c)
            for (int64_t k = 0; k < count; ++k) lane(k)[c] = 0.0;
    }

    void write(double* rows, int64_t stride, int64_t width, int64_t count) {
        for (int64_t c = 0; c < width; ++c)
            for (int64_t k = 0; k < count; ++k) rows[c * stride + k] = lane(k)[c];
    }

    Lanes& operator[](int64_t k) { return column_[k]; }
    double* lane(int64_t k) { return reinterpret_cast<double*>(&column_[k]); }

  private:
    Lanes column_[TILE];
};

// Whether any of the latencies that make up the peak is above the threshold.
bool reaches(Lanes peak, int64_t width, double threshold) {
    bool any = false;
    for (int64_t c = 0; c < width; ++c) any |= peak[c] > threshold;
    return any;
}

template <typename Queue>
void each_latency(const double* arrivals, const double* service, double* latency, int64_t traces, int64_t n,
                  int64_t workers) {
    Tile arrival, work;
    for (int64_t row = 0; row < traces; row += LANES) {
        Queue queue(workers);
        const int64_t width = std::min(LANES, traces - row);
        for (int64_t k = 0; k < n; k += TILE) {
            const int64_t count = std::min(TILE, n - k), at = row * n + k;
            arrival.read(arrivals + at, n, width, count);
            work.read(service + at, n, width, count);
            for (int64_t j = 0; j < count; ++j) work[j] = queue.latency(arrival[j], work[j]);
            work.write(latency + at, n, width, count);
        }
    }
}

struct Replayed {
    const double *arrivals, *mean, *noise;
    const uint8_t* counted;
    int64_t segments, longest, copies, workers;
    double factor, delay, threshold;
};

template <typename Queue>
int64_t each_late(const Replayed& given, int64_t* place, double* latency) {
    Tile took;
    int64_t found = 0;
    const int64_t whole = given.segments * given.longest;
    for (int64_t first = 0; first < whole; first += given.longest) {
        int64_t n = given.longest;
        while (n > 0 && !given.counted[first + n - 1]) --n;
        for (int64_t copy = 0; copy < given.copies; copy += LANES) {
            Queue queue(given.workers);
            const int64_t width = std::min(LANES, given.copies - copy);
            for (int64_t k = 0; k < n; k += TILE) {
                const int64_t count = std::min(TILE, n - k), at = first + k;
                took.read(given.noise + copy * whole + at, whole, width, count);
                Lanes peak = {};
                for (int64_t j = 0; j < count; ++j) {
                    const Lanes service = given.mean[at + j] * (took[j] * given.factor);
                    took[j] = queue.latency(all(given.arrivals[at + j]), service) + given.delay;
                    peak = later(took[j], peak);
                }
                if (!reaches(peak, width, given.threshold)) continue;
                for (int64_t c = 0; c < width; ++c)
                    for (int64_t j = 0; j < count; ++j) {
                        const double one = took.lane(j)[c];
                        if (one <= given.threshold || !given.counted[at + j]) continue;
                        place[found] = (copy + c) * whole + at + j;
                        latency[found++] = one;
                    }
            }
        }
    }
    return found;
}

// Long traces, eight side by side: arrivals and service are (blocks, n, LANES).
struct Long {
    const Lanes *arrivals, *service;
    const double* spells;
    int64_t traces, n, first, workers, spells_each;
    double rate, length, low, high;

    // Where the spells of the traces from number `row` on begin.
    Places spells_of(int64_t row) const {
        Places place;
        for (int64_t c = 0; c < LANES; ++c) place[c] = std::min(row + c, traces - 1) * spells_each;
        return place;
    }

    // The factor on the service of one query of each of these traces, by the spell that the query falls into.
    Lanes slowness(Places spells_of_traces, Lanes spell_number) const {
        Places spell = __builtin_convertvector(spell_number, Places);
        if (spells_each & (spells_each - 1))
            spell %= spells_each;
        else
            spell &= spells_each - 1;  // a remainder takes twenty times as long
        spell += spells_of_traces;
#if defined(__AVX512F__)
        return (Lanes)_mm512_i64gather_pd((__m512i)spell, spells, 8);
#else
        Lanes found;
        for (int64_t c = 0; c < LANES; ++c) found[c] = spells[spell[c]];
        return found;
#endif
    }
};

template <typename Queue>
int64_t each_between(const Long& given, double* latency, int64_t* above) {
    Tile took;
    int64_t found = 0;
    const Divisor rate(given.rate), length(given.length);
    for (int64_t row = 0; row < given.traces; row += LANES) {
        Queue queue(given.workers);
        const int64_t width = std::min(LANES, given.traces - row);
        const Places spells = given.spells_of(row);
        const Lanes* arrivals = given.arrivals + row / LANES * given.n;
        const Lanes* service = given.service + row / LANES * given.n;
        for (int64_t k = 0; k < given.n; k += TILE) {
            const int64_t count = std::min(TILE, given.n - k);
            Lanes peak = {};
            for (int64_t j = 0; j < count; ++j) {
                const Lanes arrival = rate.under(arrivals[k + j]);
                Lanes work = service[k + j];
                if (given.spells) work *= given.slowness(spells, length.under(arrival));
                took[j] = queue.latency(arrival, work);
                peak = later(took[j], peak);
            }
            if (!reaches(peak, width, given.low)) continue;
            for (int64_t j = std::max(given.first - k, int64_t{0}); j < count; ++j)
                for (int64_t c = 0; c < width; ++c) {
                    const double one = took.lane(j)[c];
                    latency[found] = one;  // kept if it lies between, else the next one takes its place
                    found += one > given.low && one <= given.high;
                    *above += one > given.high;
                }
        }
    }
    return found;
}

}  // namespace

extern "C" {

void fifo_latency(const double* arrivals, const double* service, double* latency, int64_t traces, int64_t n,
                  int64_t workers) {
    (workers == 1 ? each_latency<OneWorker> : each_latency<Workers>)(arrivals, service, latency, traces, n, workers);
}

// Of every counted query of every copy that took longer than the threshold: its place in (copies, segments, longest),
// its latency. Returns how many there are; both arrays must have room for all.
int64_t fifo_late(const double* arrivals, const double* mean, const double* noise, const uint8_t* counted,
                  int64_t segments, int64_t longest, int64_t copies, int64_t workers, double factor, double delay,
                  double threshold, int64_t* place, double* latency) {
    const Replayed given{arrivals, mean, noise, counted, segments, longest, copies, workers, factor, delay, threshold};
    return (workers == 1 ? each_late<OneWorker> : each_late<Workers>)(given, place, latency);
}

// Latencies in (low, high] of the queries from number `first` of each trace on, whose arrivals at rate 1 are given;
// spells: (traces, spells_each) factors on service, each `length` long, or null. Returns how many; above: those > high.
int64_t fifo_between(const double* arrivals, const double* service, const double* spells, int64_t traces, int64_t n,
                     int64_t first, int64_t workers, int64_t spells_each, double rate, double length, double low,
                     double high, double* latency, int64_t* above) {
    const Long given{reinterpret_cast<const Lanes*>(arrivals), reinterpret_cast<const Lanes*>(service), spells, traces,
                     n, first, workers, spells_each, rate, length, low, high};
    *above = 0;
    return (workers == 1 ? each_between<OneWorker> : each_between<Workers>)(given, latency, above);
}

// Service times of queries: the mean of their kind times one of the equally likely factors of that kind.
void draw_service(const int32_t* kind, const double* uniform, const double* mean, const int64_t* first,
                  const double* count, const double* spread, double* service, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
        service[i] = mean[kind[i]] * spread[first[kind[i]] + static_cast<int64_t>(uniform[i] * count[kind[i]])];
}

// When the first of the workers has finished the queries before each one; -inf while one has had none.
void first_free(const double* done, double* free, int64_t n, int64_t workers) {
    std::vector<double> latest(workers, NEVER);
    for (int64_t k = 0; k < n; ++k) {
        free[k] = latest[0];
        if (done[k] <= latest[0]) continue;
        int64_t w = 1;
        for (; w < workers && latest[w] < done[k]; ++w) latest[w - 1] = latest[w];
        latest[w - 1] = done[k];
    }
}

// When each part is done where up to `batch` waiting ones are merged; see harness/estimate/twin.py.
void serve_parts(const double* arrival, const int64_t* size, const double* factor, const double* by_samples,
                 double* done, int64_t total, int64_t workers, int64_t batch, double wait) {
    std::vector<double> free(workers, 0.0);
    double intake = 0.0;
    for (int64_t head = 0; head < total;) {
        const double taken = std::max(std::max(free[0], intake), arrival[head]);
        const bool fills = head + batch <= total;
        const double late = taken + wait, filled = fills ? std::min(arrival[head + batch - 1], late) : late;
        const double start = std::max(taken, filled);
        int64_t tail = head, merged = 0;
        for (const int64_t end = std::min(total, head + batch); tail < end && arrival[tail] <= start; ++tail)
            merged += size[tail];
        const double finish = start + by_samples[merged] * factor[head];
        std::fill(done + head, done + tail, finish);
        int64_t w = 1;
        for (; w < workers && free[w] < finish; ++w) free[w - 1] = free[w];
        free[w - 1] = finish;
        intake = start;
        head = tail;
    }
}

}  // extern "C"
