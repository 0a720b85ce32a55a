// Counters of a block, in shared memory: clear(), add(bin), then fold_into(counts of the plane).

// Several copies of each counter, side by side, each for some lanes of a warp. With 32 copies every lane has a
// bank of its own: natural images, whose neighbours fall into few bins, cause no bank conflict, where a single
// copy models at 10 to 14 updates a clock of the 16.5 that keep up with memory (and 2 to 8 copies do not
// help). The result of atomicAdd is not used: it compiles to ATOMS.POPC.INC, which merges equal addresses.
struct CopiedCounters {
    i64 bins;
    int copies;  // a power of two up to 32
    u32 mine;    // the address of this lane's copy of the first counter

    __device__ __forceinline__ CopiedCounters(i64 count, int of_each)
        : bins(count), copies(of_each), mine(shared_address(behind_scratch<u32>() + (lane_id() & (of_each - 1)))) {}
    __device__ __forceinline__ void clear() const {
        u32* const counters = behind_scratch<u32>();
        for (i64 i = threadIdx.x; i < bins * copies; i += blockDim.x) counters[i] = 0;
    }
    // Count in a bin. Those beyond the last one share one more counter, which nobody reads: that costs less than to
    // skip them.
    __device__ __forceinline__ void add(u32 bin) const {
        atomicAdd(&shared_word(mine + min(bin, static_cast<u32>(bins)) * copies * static_cast<u32>(sizeof(u32))), 1u);
    }
    __device__ __forceinline__ void fold_into(u64* counts) const {
        const u32* const counters = behind_scratch<u32>();
        for (i64 bin = threadIdx.x; bin < bins; bin += blockDim.x) {
            u64 sum = 0;
            // Neighbouring threads begin with different copies: in different banks.
            for (int c = 0; c < copies; ++c) sum += counters[bin * copies + ((c + bin) & (copies - 1))];
            if (sum) atomicAdd(&counts[bin], sum);
        }
    }
};

// The 256 bins of 8 bits, counted by bit pattern: 32 copies of each.
struct LaneCounters {
    LaneWords words;
    u32 flip = 0;  // turns a counter's number into its bin

    __device__ __forceinline__ void clear() const {
        uint4* const all = behind_scratch<uint4>();
        for (int i = threadIdx.x; i < COUNTERS_U8 / VECTOR; i += blockDim.x) all[i] = uint4{0, 0, 0, 0};
    }
    __device__ __forceinline__ void add(u32 bin) const { atomicAdd(&words.of(bin), 1u); }
    // Count the four pixels of a word.
    __device__ __forceinline__ void add_word(u32 four) const {
        atomicAdd(&words.of_byte<0>(four), 1u);
        atomicAdd(&words.of_byte<1>(four), 1u);
        atomicAdd(&words.of_byte<2>(four), 1u);
        atomicAdd(&words.of_byte<3>(four), 1u);
    }
    __device__ __forceinline__ void add_vector(const uint4& pixels) const {
        add_word(pixels.x);
        add_word(pixels.y);
        add_word(pixels.z);
        add_word(pixels.w);
    }
    // Call visit(value, how many there are). Eight lanes add up the copies of a counter, four each.
    template <class Visit>
    __device__ __forceinline__ void fold(Visit visit) const {
        const uint4* const all = behind_scratch<uint4>();
        for (int i = threadIdx.x; i < COUNTERS_U8 / VECTOR; i += blockDim.x) {
            const uint4 four = all[i];
            u32 sum = four.x + four.y + four.z + four.w;
#pragma unroll
            for (int distance = 4; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
            if (sum && i % 8 == 0) visit(static_cast<u32>(i) / 8, static_cast<u64>(sum));
        }
    }
    __device__ __forceinline__ void fold_into(u64* counts) const {
        fold([&](u32 value, u64 sum) { atomicAdd(&counts[value ^ flip], sum); });
    }
};

// Count a share of a plane of 8-bit pixels whose rows are contiguous.
__device__ __forceinline__ void count_bytes(const Layout& at, const Share& share, const char* plane,
                                            const LaneCounters& counters) {
    for_each_vector<u8>(
        at, share, plane, [&](const Vector<u8>& pixels) { counters.add_vector(pixels.whole); },
        [&](u8 pixel) { counters.add(pixel); });
}

// Copied counters of a slice of the bins, blockIdx.z: of all of them, but where shared memory holds fewer.
struct SlicedCopies {
    CopiedCounters copied;
    u32 first;  // of the slice

    __device__ __forceinline__ SlicedCopies(i64 bins, i64 copies) : copied(0, static_cast<int>(copies)) {
        const i64 length = (bins + gridDim.z - 1) / gridDim.z;
        first = static_cast<u32>(blockIdx.z * length);
        copied.bins = min(length, bins - first);
    }
    __device__ __forceinline__ void clear() const { copied.clear(); }
    __device__ __forceinline__ void add(u32 bin) const { copied.add(bin - first); }
    __device__ __forceinline__ void fold_into(u64* counts) const { copied.fold_into(counts + first); }
};

// Where a launch leaves its counts and tables.
struct Results {
    u64* counts;      // workspace: zeros before and after
    u32* tickets;     // workspace, one a plane: zeros before and after
    void* tables;
    i64* counts_out;  // or null
};

// Count every plane of the launch: count_plane(plane, counters) adds each pixel of this block's share.
template <class Counters, class CountPlane>
__device__ __forceinline__ void count_planes(const Layout& at, Counters counters, const Rule& rule,
                                             const Results& results, CountPlane count_plane) {
    for (i64 index = blockIdx.y; index < at.images * at.planes; index += gridDim.y) {
        u64* const counts = results.counts + index * rule.bins;
        counters.clear();
        __syncthreads();
        count_plane(Plane(at, index), counters);
        __syncthreads();
        counters.fold_into(counts);
        if (is_last_block(&results.tickets[index], gridDim.x * gridDim.z))
            finish_plane(results.counts, rule, results.tables, results.counts_out, index);
        __syncthreads();  // before the counters and the scratch serve the next plane
    }
}
