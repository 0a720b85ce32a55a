// From counts to a table: one block scans one histogram and writes the table of a rule.
//
// The arithmetic is that of histeq/_core/rules.py, operation by operation.

struct Rule {
    i64 name;          // RULE_OPENCV and the like
    i64 bins;          // entries of a histogram and of a table
    i64 width;         // bytes of a table's entry: an integer level, or a fraction by "skimage"
    i64 nodata;        // the bin that does not count; -1: none
    i64 first, last;   // integers: what the first and the last bin become where every pixel keeps its value
    i64 low, span;     // the lowest output level, and how many levels above it the highest lies
    i64 to_brightest;  // "vips", 16 bits: the highest level is that of the brightest pixel
    i64 floating;      // the images are: where nothing was counted, the table is NaN
    double fraction_low, fraction_span;  // "skimage": the output range
};

// What a rule needs to know of a histogram besides the cumulative counts.
struct Summary {
    u64 total, at_first, at_last;
    i64 first, last;  // non-empty bins; first is 0 and last -1 where there is none
    float scale;      // "opencv" and "vips": levels a pixel
    u64 step;         // "pillow": pixels a level
};

__device__ __forceinline__ u64 count_at(const u64* counts, const Rule& rule, i64 bin) {
    return bin == rule.nodata ? 0 : counts[bin];
}

// Add up over the lanes of a warp up to each lane.
__device__ __forceinline__ u64 warp_scan(u64 value) {
#pragma unroll
    for (int distance = 1; distance < WARP; distance *= 2) {
        const u64 below = __shfl_up_sync(0xffffffffu, value, distance);
        if (lane_id() >= distance) value += below;
    }
    return value;
}

// The stretch of a histogram's bins that a warp takes, in steps of its lanes.
struct WarpBins {
    i64 begin, end;
    __device__ __forceinline__ explicit WarpBins(i64 bins) {
        const i64 length = ((bins + warps() - 1) / warps() + WARP - 1) / WARP * WARP;
        begin = min(warp_id() * length, bins);
        end = min(begin + length, bins);
    }
};

__device__ __forceinline__ i64 clamp(i64 value, i64 top) { return max(0ll, min(value, top)); }

// Prepare what is the same for all bins; tell whether the rule leaves every pixel as it is.
__device__ __forceinline__ bool is_identity(const Rule& rule, Summary& all) {
    const i64 others = static_cast<i64>(all.total - all.at_first);
    switch (rule.name) {
        case RULE_OPENCV: all.scale = divide(__ll2float_rn(rule.span), __ll2float_rn(others)); return others == 0;
        case RULE_NUMPY: return others == 0;
        case RULE_PILLOW: all.step = (all.total - all.at_last) / rule.span; return all.step == 0;
        case RULE_VIPS: {
            const double span = __ll2double_rn(rule.to_brightest ? all.last : rule.span);
            all.scale = narrow(divide(span, __ll2double_rn(all.total)));
            return all.total == 0;
        }
        default: return false;
    }
}

// The level of a bin by an integer rule; `upto` counts the pixels up to and in the bin, `here` those in it.
__device__ __forceinline__ i64 level_of(const Rule& rule, const Summary& all, i64 bin, u64 upto, u64 here) {
    const i64 above = bin < all.first ? 0 : static_cast<i64>(upto - all.at_first);
    switch (rule.name) {
        case RULE_OPENCV:
            return rule.low + clamp(__float2ll_rn(multiply(__ll2float_rn(above), all.scale)), rule.span);
        case RULE_NUMPY: {
            const double product = multiply(__ll2double_rn(above), __ll2double_rn(rule.span));
            return rule.low + __double2ll_rz(divide(product, __ll2double_rn(all.total - all.at_first)));
        }
        case RULE_PILLOW: {
            const u64 level = (all.step / 2 + upto - here) / all.step;
            return rule.low + static_cast<i64>(min(level, static_cast<u64>(rule.span)));
        }
        default: {  // RULE_VIPS
            const i64 span = rule.to_brightest ? all.last : rule.span;
            return rule.low + clamp(__float2ll_rd(multiply(__ll2float_rn(upto), all.scale)), span);
        }
    }
}

// What a bin of an integer image becomes where every pixel keeps its value: evenly between the first and the last.
__device__ __forceinline__ i64 unchanged(const Rule& rule, i64 bin) {
    const double step = divide(__ll2double_rn(rule.last - rule.first), __ll2double_rn(rule.bins - 1));
    return rule.first + __double2ll_rn(multiply(__ll2double_rn(bin), step));
}

// The fraction of a bin by "skimage": the cumulative distribution. Below the darkest pixel of an integer image
// np.interp holds the first value.
__device__ __forceinline__ double fraction_of(const Rule& rule, const Summary& all, i64 bin, u64 upto) {
    if (all.total == 0)
        return rule.floating ? __longlong_as_double(0x7ff8000000000000ll) : __ll2double_rn(unchanged(rule, bin));
    const u64 pixels = !rule.floating && bin < all.first ? all.at_first : upto;
    const double cdf = divide(__ll2double_rn(pixels), __ll2double_rn(all.total));
    return add(rule.fraction_low, multiply(cdf, rule.fraction_span));
}

__device__ __forceinline__ void store_fraction(void* table, i64 width, i64 bin, double fraction) {
    if (width == sizeof(double)) static_cast<double*>(table)[bin] = fraction;
    else static_cast<float*>(table)[bin] = narrow(fraction);
}
__device__ __forceinline__ void store_level(void* table, i64 width, i64 bin, i64 level) {
    if (width == sizeof(u8)) static_cast<u8*>(table)[bin] = static_cast<u8>(level);
    else static_cast<u16*>(table)[bin] = static_cast<u16>(level);  // int16: the same bits
}

// Store a bin's entry of a table; `upto` and `here` as for level_of.
__device__ __forceinline__ void store_entry(void* table, const Rule& rule, const Summary& all, bool identity, i64 bin,
                                            u64 upto, u64 here) {
    if (rule.name == RULE_SKIMAGE)
        store_fraction(table, rule.width, bin, fraction_of(rule, all, bin, upto));
    else
        store_level(table, rule.width, bin, identity ? unchanged(rule, bin) : level_of(rule, all, bin, upto, here));
}

// Add up a histogram, each warp its stretch: a Summary, but for what a rule derives from it. `before` becomes the
// number of pixels below this warp's stretch.
__device__ __forceinline__ Summary summary_of(const u64* counts, const Rule& rule, const WarpBins& mine, u64& before) {
    u64 sum = 0;
    i64 first = rule.bins, last = -1;
    for (i64 bin = mine.begin + lane_id(); bin < mine.end; bin += WARP) {
        const u64 here = count_at(counts, rule, bin);
        sum += here;
        if (here) {
            first = min(first, bin);
            last = max(last, bin);
        }
    }
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
        first = min(first, __shfl_xor_sync(0xffffffffu, first, distance));
        last = max(last, __shfl_xor_sync(0xffffffffu, last, distance));
    }
    if (lane_id() == 0) {
        scratch()->sums[warp_id()] = sum;
        scratch()->firsts[warp_id()] = first;
        scratch()->lasts[warp_id()] = last;
    }
    __syncthreads();

    Summary all{0, 0, 0, rule.bins, -1, 0, 0};
    before = 0;
    for (int w = 0; w < warps(); ++w) {
        if (w < warp_id()) before += scratch()->sums[w];
        all.total += scratch()->sums[w];
        all.first = min(all.first, scratch()->firsts[w]);
        all.last = max(all.last, scratch()->lasts[w]);
    }
    if (all.first == rule.bins) all.first = 0;
    if (all.total) {
        all.at_first = count_at(counts, rule, all.first);
        all.at_last = count_at(counts, rule, all.last);
    }
    return all;
}

// Write the table of one histogram. Every warp takes a stretch of the bins: it adds up its stretch, learns what
// lies before it, and goes through its stretch once more. Not inlined: each kernel's main loop keeps its
// registers, and a module has this code once.
__device__ __noinline__ void write_table(const u64* counts, const Rule& rule, void* table) {
    const WarpBins mine(rule.bins);
    u64 upto;
    Summary all = summary_of(counts, rule, mine, upto);
    const bool identity = is_identity(rule, all);
    for (i64 start = mine.begin; start < mine.end; start += WARP) {
        const i64 bin = start + lane_id();
        const u64 here = bin < mine.end ? count_at(counts, rule, bin) : 0;
        const u64 scanned = warp_scan(here);
        if (bin < mine.end) store_entry(table, rule, all, identity, bin, upto + scanned, here);
        upto += __shfl_sync(0xffffffffu, scanned, WARP - 1);
    }
}

__device__ __forceinline__ void* table_of(void* tables, const Rule& rule, i64 plane) {
    return static_cast<char*>(tables) + plane * rule.bins * rule.width;
}

// Work of the last histogram block of a plane: hand out the counts, write the table, and leave zeros in the
// workspace for the next launch, so that no launch needs a memset before it.
__device__ __noinline__ void finish_plane(u64* counts, const Rule& rule, void* tables, i64* counts_out, i64 plane) {
    u64* const mine = counts + plane * rule.bins;
    if (rule.name != RULE_NONE) write_table(mine, rule, table_of(tables, rule, plane));
    __syncthreads();
    for (i64 bin = threadIdx.x; bin < rule.bins; bin += blockDim.x) {
        if (counts_out != nullptr) counts_out[plane * rule.bins + bin] = count_at(mine, rule, bin);
        mine[bin] = 0;
    }
}
