// The stationary wait on its grid, and the lumping of service times: the floating-point steps of
// harness/estimate/mg1.py and twin.py, one value after the other (-ffp-contract=off).

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

extern "C" {

// Mass of the residual service time in cells around 0, step, 2 step, ..., each times its damping.
// ns ascending, probability: (atoms,); damping, cell: (cells,).
void residual_cells(const double* ns, const double* probability, int64_t atoms, double step, double mean,
                    const double* damping, double* cell, int64_t cells) {
    double below = 0.0, mass = 0.0, before = 0.0;
    int64_t atom = 0;
    for (int64_t k = 0; k < cells; ++k) {
        const double edge = (static_cast<double>(k) + 0.5) * step;
        for (; atom < atoms && ns[atom] <= edge; ++atom) {
            below += probability[atom] * ns[atom];
            mass += probability[atom];
        }
        const double mean_of_minimum = below + edge * (1.0 - mass);
        cell[k] = (mean_of_minimum - before) / mean * damping[k];
        before = mean_of_minimum;
    }
}

// P(wait > x) just above 0 and at the upper edges of cells, from the damped masses of the wait in them.
// wait: (queues, cells), damping: (cells,), load: (queues,), tail: (queues, edges).
void edge_tails(const double* wait, const double* damping, const double* load, double* tail, int64_t queues,
                int64_t cells, int64_t edges) {
    for (int64_t q = 0; q < queues; ++q) {
        const double* own = wait + q * cells;
        double* to = tail + q * edges;
        double within = 0.0;
        to[0] = load[q];
        for (int64_t k = 1; k < edges; ++k) {
            within += own[k - 1] / damping[k - 1];
            to[k] = 1.0 - within;
        }
        for (int64_t k = 0; k < edges; ++k) to[k] = std::min(std::max(to[k], 0.0), 1.0);
    }
}

// The tail at n moments, linear between edges: cell is the number of the edge before each, -1 for a tail of 1.
void read_tail(const double* tail, const double* width, int64_t edges, const int32_t* cell, const double* beyond,
               double* found, int64_t n) {
    std::vector<double> slope(edges);
    for (int64_t k = 0; k + 1 < edges; ++k) slope[k] = (tail[k + 1] - tail[k]) / width[k];
    for (int64_t i = 0; i < n; ++i) {
        const int32_t at = std::max(cell[i], 0);
        const double value = slope[at] * beyond[i] + tail[at];
        found[i] = cell[i] < 0 ? 1.0 : value;
    }
}

// Values whose logs lie within the same width, lumped: their mass, and mass times value, by atom from the lowest one on.
// log_ns, ns: of `sizes` sizes one after the other, count[i] of them, each of mass share[i]. mass, moment: zeros.
void lump(const double* log_ns, const double* ns, const int64_t* count, const double* share, int64_t sizes, double width,
          double lowest, double* mass, double* moment) {
    for (int64_t i = 0, at = 0; i < sizes; ++i)
        for (const int64_t end = at + count[i]; at < end; ++at) {
            const auto atom = static_cast<int64_t>(std::floor(log_ns[at] / width) - lowest);
            mass[atom] += share[i];
            moment[atom] += share[i] * ns[at];
        }
}

}  // extern "C"
