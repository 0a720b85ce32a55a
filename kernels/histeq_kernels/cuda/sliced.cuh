// The 65,536 counters of 16 bits, in slices that fit into shared memory, and what follows from their counts.
//
// A block counts one slice of the values, and every pixel is looked at by one block of each slice: they run side by
// side, so that all but the first find it in the L2 cache. The counters have 32 bits and nobody asks what was in them:
// additions of equal addresses are merged, an image of one value takes no longer than others.
//
// A plane's counts are followed by their sums over CHUNK bins each. These tell a warp what lies before its chunk, so
// that as many warps as there are chunks make a table at once.

constexpr int CHUNKS = 65536 / CHUNK;
constexpr int IN_LANE = CHUNK / WARP;  // bins of a chunk that a lane takes

// The counts of a plane, and the sums of their chunks.
__device__ __forceinline__ u64* wide_counts(u64* counts, i64 plane) { return counts + plane * (65536 + CHUNKS); }

// Where the counter of a bin is. Pixels whose low bits are zeros, such as 12 bits at the top of 16, would else meet in
// few banks. A bijection of every 32 counters that lie side by side.
__device__ __forceinline__ u32 spread(u32 bin) { return bin ^ (bin >> 6 & 31u); }

struct SlicedCounters {
    u32* counters;    // and one more, for values of other slices: that costs less than to skip them
    u32 first, bins;  // of the slice: powers of two
    u32 toggle;       // turns the bits of a pixel into the bin, counted from `first`; less than `bins` in the slice alone

    __device__ __forceinline__ SlicedCounters(u32 slice, u32 slices, u32 flip)
        : counters(behind_scratch<u32>()), first(65536 / slices * slice), bins(65536 / slices), toggle(first ^ flip) {}
    __device__ __forceinline__ void clear() const {
        for (u32 i = threadIdx.x; i < bins / 4; i += blockDim.x)
            reinterpret_cast<uint4*>(counters)[i] = uint4{0, 0, 0, 0};
    }
    __device__ __forceinline__ void add_at(u32 place) const {
        atomicAdd(&counters[min(place, bins)], 1u);
    }
    __device__ __forceinline__ void add(u32 value) const { add_at(spread(value ^ toggle)); }
    // Two pixels of a word at once.
    __device__ __forceinline__ void add_pair(u32 values) const {
        const u32 in_slice = values ^ toggle * 0x10001u;
        const u32 places = in_slice ^ (in_slice >> 6 & 0x001f001fu);
        add_at(places & 0xffffu);
        add_at(places >> 16);
    }
    __device__ __forceinline__ void fold_into(u64* counts) const {
        for (u32 chunk = warp_id(); chunk < bins / CHUNK; chunk += warps()) {
            u32 sum = 0;
            for (u32 i = lane_id(); i < CHUNK; i += WARP) {
                const u32 bin = chunk * CHUNK + i, here = counters[spread(bin)];
                if (here) atomicAdd(&counts[first + bin], static_cast<u64>(here));
                sum += here;
            }
#pragma unroll
            for (int distance = WARP / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
            if (lane_id() == 0 && sum) atomicAdd(&counts[65536 + first / CHUNK + chunk], static_cast<u64>(sum));
        }
    }
};

// Count every plane of the launch in the slice blockIdx.z: count_plane(plane, counters).
template <class CountPlane>
__device__ __forceinline__ void count_slices(const Layout& at, u32 flip, const Results& results,
                                             CountPlane count_plane) {
    const SlicedCounters counters(blockIdx.z, gridDim.z, flip);
    for (i64 index = blockIdx.y; index < at.images * at.planes; index += gridDim.y) {
        counters.clear();
        __syncthreads();
        count_plane(Plane(at, index), counters);
        __syncthreads();
        counters.fold_into(wide_counts(results.counts, index));
        __syncthreads();  // before the counters serve the next plane
    }
}

// Count a share of a plane of 16-bit pixels whose rows are contiguous.
__device__ __forceinline__ void count_pairs(const Layout& at, const Share& share, const char* plane,
                                            const SlicedCounters& counters) {
    for_each_vector<u16>(
        at, share, plane,
        [&](const Vector<u16>& pixels) {
            counters.add_pair(pixels.whole.x);
            counters.add_pair(pixels.whole.y);
            counters.add_pair(pixels.whole.z);
            counters.add_pair(pixels.whole.w);
        },
        [&](u16 pixel) { counters.add(pixel); });
}

// The first or the last bin of a chunk in which something was counted, and how much; all lanes of a warp look for it.
template <bool LAST>
__device__ __forceinline__ i64 outermost(const u64* counts, const Rule& rule, i64 chunk, u64& count) {
    i64 found = LAST ? -1 : rule.bins;
    u64 its = 0;
#pragma unroll
    for (int i = 0; i < IN_LANE; ++i) {
        const i64 bin = chunk * CHUNK + i * WARP + lane_id();
        const u64 here = count_at(counts, rule, bin);
        if (here && (LAST ? bin > found : bin < found)) {
            found = bin;
            its = here;
        }
    }
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        const i64 other = __shfl_xor_sync(0xffffffffu, found, distance);
        found = LAST ? max(found, other) : min(found, other);
    }
    count = __shfl_sync(0xffffffffu, its, static_cast<int>(found % WARP));  // CHUNK is a multiple of WARP
    return found;
}

// A Summary of all counts from the sums of their chunks, by one warp. `before` becomes the number of pixels below a
// chunk.
__device__ __forceinline__ Summary summary_of_chunks(const u64* counts, const Rule& rule, i64 chunk, u64& before) {
    const bool has_nodata = rule.nodata >= 0;
    const u64 left_out = has_nodata ? counts[rule.nodata] : 0;
    Summary all{0, 0, 0, 0, -1, 0, 0};
    i64 first = CHUNKS, last = -1;
    before = 0;
#pragma unroll
    for (int i = 0; i < IN_LANE; ++i) {
        const i64 other = i * WARP + lane_id();
        const u64 here = counts[65536 + other] - (has_nodata && other == rule.nodata / CHUNK ? left_out : 0);
        all.total += here;
        if (other < chunk) before += here;
        if (here) {
            first = min(first, other);
            last = max(last, other);
        }
    }
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        all.total += __shfl_xor_sync(0xffffffffu, all.total, distance);
        before += __shfl_xor_sync(0xffffffffu, before, distance);
        first = min(first, __shfl_xor_sync(0xffffffffu, first, distance));
        last = max(last, __shfl_xor_sync(0xffffffffu, last, distance));
    }
    if (all.total) {
        all.first = outermost<false>(counts, rule, first, all.at_first);
        all.last = outermost<true>(counts, rule, last, all.at_last);
    }
    return all;
}

// Chunks that more than one warp looks into, and which are cleared in the end.
struct LookedInto {
    int first, last, nodata;  // nodata: any of the others where there is none

    __device__ __forceinline__ LookedInto(const Rule& rule, const Summary& all)
        : first(static_cast<int>(all.first / CHUNK)), last(static_cast<int>(all.last / CHUNK)),
          nodata(rule.nodata < 0 ? first : static_cast<int>(rule.nodata / CHUNK)) {}
    __device__ __forceinline__ bool has(i64 chunk) const { return chunk == first || chunk == last || chunk == nodata; }
    // Leave zeros there and in the sums: one warp does it, after all chunks.
    __device__ __forceinline__ void clear(u64* counts) const {
        for (int i = lane_id(); i < CHUNK; i += WARP)
            counts[first * CHUNK + i] = counts[last * CHUNK + i] = counts[nodata * CHUNK + i] = 0;
        for (int i = lane_id(); i < CHUNKS; i += WARP) counts[65536 + i] = 0;
    }
};
__device__ __forceinline__ LookedInto looked_into(const u64* counts, const Rule& rule) {
    u64 before;
    return LookedInto(rule, summary_of_chunks(counts, rule, 0, before));
}

// Hand out the counts of a chunk, write its part of the table, and leave zeros, but for what others look into. All lanes
// of a warp take part.
__device__ __forceinline__ void finish_chunk(u64* counts, const Rule& rule, void* table, i64* counts_out, i64 chunk) {
    u64 upto;
    Summary all = summary_of_chunks(counts, rule, chunk, upto);
    const bool identity = is_identity(rule, all), clears = !LookedInto(rule, all).has(chunk);
    const i64 begin = chunk * CHUNK + lane_id() * IN_LANE;
    u64 sum = 0;
#pragma unroll
    for (int i = 0; i < IN_LANE; ++i) sum += count_at(counts, rule, begin + i);
    upto += warp_scan(sum) - sum;
#pragma unroll 1
    for (i64 bin = begin; bin < begin + IN_LANE; ++bin) {
        const u64 here = count_at(counts, rule, bin);
        upto += here;
        if (counts_out != nullptr) counts_out[bin] = static_cast<i64>(here);
        if (rule.name != RULE_NONE) store_entry(table, rule, all, identity, bin, upto, here);
        if (clears) counts[bin] = 0;
    }
}
