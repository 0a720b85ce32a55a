// Histogram matching: tables that give one histogram the distribution of another. One block a histogram.

// Sums of a stretch of bins by each warp, put into the scratch: counts into sums, occupied bins into firsts.
__device__ __forceinline__ void add_up(const u64* counts, const WarpBins& mine) {
    u64 sum = 0;
    i64 occupied = 0;
    for (i64 bin = mine.begin + lane_id(); bin < mine.end; bin += WARP) {
        sum += counts[bin];
        occupied += counts[bin] != 0;
    }
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        occupied += __shfl_xor_sync(0xffffffffu, occupied, distance);
    }
    __syncthreads();  // nobody reads the scratch's former content any more
    if (lane_id() == 0) {
        scratch()->sums[warp_id()] = sum;
        scratch()->firsts[warp_id()] = occupied;
    }
    __syncthreads();
}

// Call visit(bin, pixels here, pixels up to here, pixels in all, occupied bins below) for every bin; return
// the number of occupied bins.
template <class Visit>
__device__ __forceinline__ i64 for_each_quantile(const u64* counts, i64 bins, Visit visit) {
    const WarpBins mine(bins);
    add_up(counts, mine);
    u64 upto = 0, total = 0;
    i64 below = 0, occupied = 0;
    for (int w = 0; w < warps(); ++w) {
        if (w < warp_id()) {
            upto += scratch()->sums[w];
            below += scratch()->firsts[w];
        }
        total += scratch()->sums[w];
        occupied += scratch()->firsts[w];
    }
    for (i64 start = mine.begin; start < mine.end; start += WARP) {
        const i64 bin = start + lane_id();
        const u64 here = bin < mine.end ? counts[bin] : 0;
        const u64 scanned = warp_scan(here);
        const u64 places = warp_scan(here != 0);
        if (bin < mine.end) visit(bin, here, upto + scanned, total, below + static_cast<i64>(places) - (here != 0));
        upto += __shfl_sync(0xffffffffu, scanned, WARP - 1);
        below += static_cast<i64>(__shfl_sync(0xffffffffu, places, WARP - 1));
    }
    return occupied;
}

// np.interp between two points.
__device__ __forceinline__ double between(double x, double x0, double x1, double y0, double y1) {
    if (x == x0) return y0;
    const double slope = divide(subtract(y1, y0), subtract(x1, x0));
    double y = add(multiply(slope, subtract(x, x0)), y0);
    if (y != y) y = add(multiply(slope, subtract(x, x1)), y1);
    return y != y && y0 == y1 ? y0 : y;
}

// np.interp(x, xs, ys) for ascending xs.
__device__ __forceinline__ double interpolate(double x, const double* xs, const double* ys, i64 size) {
    if (x < xs[0]) return ys[0];
    if (x >= xs[size - 1]) return ys[size - 1];
    i64 left = 0, right = size - 1;
    while (right - left > 1) {
        const i64 middle = (left + right) / 2;
        if (x >= xs[middle]) left = middle;
        else right = middle;
    }
    return between(x, xs[left], xs[left + 1], ys[left], ys[left + 1]);
}

// Of the rule, only the bins, their lowest value and the bytes of a table's entry matter. `quantiles` and `values` are
// workspace, of one entry a bin.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
match_table(const u64* counts, const u64* reference, i64 histograms, const __grid_constant__ Rule rule,
            double* quantiles, double* values, void* tables) {
    const i64 bins = rule.bins;
    for (i64 index = blockIdx.x; index < histograms; index += gridDim.x) {
        double* const xs = quantiles + index * bins;
        double* const ys = values + index * bins;
        const i64 occupied = for_each_quantile(
            reference + index * bins, bins, [&](i64 bin, u64 here, u64 upto, u64 total, i64 place) {
                if (here) {
                    xs[place] = divide(__ll2double_rn(upto), __ll2double_rn(total));
                    ys[place] = __ll2double_rn(rule.first + bin);
                }
            });
        __syncthreads();  // all threads read what all have written
        for_each_quantile(counts + index * bins, bins, [&](i64 bin, u64, u64 upto, u64 total, i64) {
            i64 value = rule.first + bin;
            if (total && occupied) {
                const double quantile = divide(__ll2double_rn(upto), __ll2double_rn(total));
                value = __double2ll_rz(interpolate(quantile, xs, ys, occupied));
            }
            store_level(table_of(tables, rule, index), rule.width, bin, value);
        });
    }
}

// np.interp at every value of an array, float64.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
interpolate_f64(const double* x, i64 count, const double* xs, const double* ys, i64 size, double* y) {
    const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
    for (i64 i = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
        y[i] = interpolate(x[i], xs, ys, size);
}
