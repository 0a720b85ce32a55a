// Counters of a block, in shared memory: clear(), add(bin), then fold_into(counts of the plane).

// Several copies of each counter, side by side, each for some lanes of a warp. With 32 copies every lane has a
// bank of its own: natural images, whose neighbours fall into few bins, cause no bank conflict, where a single
// copy models at 10 to 14 updates a clock of the 16.5 that keep up with memory (and 2 to 8 copies do not
// help). The result of atomicAdd is not used: it compiles to ATOMS.POPC.INC, which merges equal addresses.
struct CopiedCounters {
    u32* counters;
    i64 bins;
    int copies;  // a power of two up to 32
    u32 flip = 0;  // turns a counter's number into its bin

    __device__ __forceinline__ void clear(u64*) const {
        for (i64 i = threadIdx.x; i < bins * copies; i += blockDim.x) counters[i] = 0;
    }
    __device__ __forceinline__ void add(u32 bin) const {
        atomicAdd(&counters[bin * copies + (lane_id() & (copies - 1))], 1u);
    }
    __device__ __forceinline__ void fold_into(u64* counts) const {
        for (i64 bin = threadIdx.x; bin < bins; bin += blockDim.x) {
            u64 sum = 0;
            // Neighbouring threads begin with different copies: in different banks.
            for (int c = 0; c < copies; ++c) sum += counters[bin * copies + ((c + bin) & (copies - 1))];
            if (sum) atomicAdd(&counts[bin ^ flip], sum);
        }
    }
};

// The 256 bins of 8 bits, counted by bit pattern: all constants, so that an address is one shift and one addition.
__device__ __forceinline__ CopiedCounters counters_u8(u32 flip = 0) {
    return CopiedCounters{behind_scratch<u32>(), 256, COPIES_U8, flip};
}

// 65,536 bins, two counters of 16 bits a word: 128 KB, which is more than the shared memory of sm_75, 86, 89
// and 120 has. There the values are cut into 2 or 4 slices; a block counts one slice, and every pixel is
// looked at by one block of each slice.
//
// A counter that overflows hands 65,536 over to the plane's counts. A word W and what was handed over together
// always hold low + 65,536 * high: when the low counter wraps, its carry is taken back out of the high one; when
// the word wraps, either way, the high counter's share goes the same way. Since every atomic returns what it
// found, this holds for any order of the threads.
struct PackedCounters {
    u32* words;
    u64* counts;  // of the plane
    u32 first, bins;
    bool can_overflow;

    __device__ __forceinline__ void clear(u64* plane_counts) {
        counts = plane_counts;
        for (u32 i = threadIdx.x; i < bins / 2; i += blockDim.x) words[i] = 0;
    }
    __device__ __forceinline__ void add(u32 value) const {
        const u32 bin = value - first;
        if (bin >= bins) return;  // of another slice
        u32* const word = &words[bin / 2];
        const u32 one = bin % 2 ? 0x10000u : 1u;
        if (!can_overflow) {
            atomicAdd(word, one);
            return;
        }
        const u32 before = atomicAdd(word, one);
        const u32 high = first + (bin | 1);
        if (before > 0xffffffffu - one) atomicAdd(&counts[high], 0x10000ull);
        if (one == 1 && (before & 0xffffu) == 0xffffu) {
            atomicAdd(&counts[first + bin], 0x10000ull);
            if (atomicSub(word, 0x10000u) < 0x10000u) atomicAdd(&counts[high], 0ull - 0x10000ull);
        }
    }
    __device__ __forceinline__ void fold_into(u64*) const {
        for (u32 i = threadIdx.x; i < bins / 2; i += blockDim.x) {
            const u32 word = words[i];
            if (word & 0xffffu) atomicAdd(&counts[first + 2 * i], static_cast<u64>(word & 0xffffu));
            if (word >> 16) atomicAdd(&counts[first + 2 * i + 1], static_cast<u64>(word >> 16));
        }
    }
};

// Copied counters; or, where there are more bins than shared memory holds, straight into the plane's counts.
struct CopiedOrDirectCounters {
    CopiedCounters copied;  // copies is 0: direct
    u64* counts;

    __device__ __forceinline__ void clear(u64* plane_counts) {
        counts = plane_counts;
        copied.clear(plane_counts);
    }
    __device__ __forceinline__ void add(u32 bin) const {
        if (copied.copies) copied.add(bin);
        else atomicAdd(&counts[bin], 1ull);
    }
    __device__ __forceinline__ void fold_into(u64* plane_counts) const { copied.fold_into(plane_counts); }
};

// Where a launch leaves its counts and tables.
struct Results {
    u64* counts;      // workspace: zeros before and after
    u32* tickets;     // workspace, one a plane: zeros before and after
    void* tables;
    i64* counts_out;  // or null
};

// Count every plane of the launch: count_plane(plane, add) calls add(bin) for each pixel of this block's share.
template <class Counters, class CountPlane>
__device__ __forceinline__ void count_planes(const Layout& at, Counters counters, const Rule& rule,
                                             const Results& results, CountPlane count_plane) {
    for (i64 index = blockIdx.y; index < at.images * at.planes; index += gridDim.y) {
        u64* const counts = results.counts + index * rule.bins;
        counters.clear(counts);
        __syncthreads();
        count_plane(Plane(at, index), [&](u32 bin) { counters.add(bin); });
        __syncthreads();
        counters.fold_into(counts);
        if (is_last_block(&results.tickets[index], gridDim.x * gridDim.z))
            finish_plane(results.counts, rule, results.tables, results.counts_out, index);
        __syncthreads();  // before the counters and the scratch serve the next plane
    }
}

// The counters of blockIdx.z, one slice of the 65,536 values, for rows cut into stretches of `length` pixels.
__device__ __forceinline__ PackedCounters counters_u16(const Layout& at, i64 length) {
    const u32 bins = 65536 / gridDim.z;
    // The most stretches that a warp of this block may get, and the pixels in those of all its warps: up to
    // 65,535 no counter can overflow.
    const i64 stretches = at.layers * at.rows * (at.columns / length + 2);
    const i64 most = stretches / (static_cast<i64>(gridDim.x) * warps()) + 1;
    const i64 share = min(most * warps() * length, at.layers * at.rows * at.columns);
    return PackedCounters{behind_scratch<u32>(), nullptr, blockIdx.z * bins, bins, share > 0xffff};
}
