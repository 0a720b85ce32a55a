// Count the pixels of integer images; the last block of each plane of 8 bits makes its table.
//
// Grid: x parts of a plane, y planes (in steps of gridDim.y), z slices of the values (16 bits only).

// Call count(value) for this block's share of the pixels of one plane, of any strides, that a mask leaves.
template <class T, class Count>
__device__ __forceinline__ void count_strided(const Layout& at, const char* pixels, const u8* masked, Count count) {
    if (masked != nullptr && at.image.column == sizeof(T) && at.mask.column == 1) {
        for_each_group<false, T, 1>(
            at, pixels,
            [&](const RowOffsets& row, i64 x) {
                Vector<T> loaded;
                loaded.whole = __ldg(reinterpret_cast<const uint4*>(pixels + row.image + x * sizeof(T)));
                const MaskBytes<IN_VECTOR<T>> counted(masked + row.mask + x);
#pragma unroll
                for (int e = 0; e < IN_VECTOR<T>; ++e)
                    if (counted.byte[e]) count(loaded.element[e]);
            },
            [&](const RowOffsets& row, i64 x) {
                if (masked[row.mask + x]) count(*reinterpret_cast<const T*>(pixels + row.image + x * sizeof(T)));
            });
        return;
    }
    for_each_pixel<false>(at, masked, [&](i64 from, i64, bool counted) {
        if (counted) count(*reinterpret_cast<const T*>(pixels + from));
    });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
histogram_u8(Layout at, const char* image, u32 flip, const __grid_constant__ Rule rule, Results results) {
    count_planes(at, LaneCounters{LaneWords(), flip}, rule, results,
                 [&](const Plane& plane, const LaneCounters& counters) {
                     count_bytes(at, Share::of_grid(), image + plane.offset(at.image), counters);
                 });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
histogram_u8_strided(Layout at, const char* image, const u8* mask, u32 flip, const __grid_constant__ Rule rule,
                     Results results) {
    count_planes(at, LaneCounters{LaneWords(), flip}, rule, results,
                 [&](const Plane& plane, const LaneCounters& counters) {
                     count_strided<u8>(at, image + plane.offset(at.image), plane.mask_of(mask, at),
                                       [&](u8 value) { counters.add(value); });
                 });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
histogram_u16(Layout at, const char* image, u32 flip, Results results) {
    count_slices(at, flip, results, [&](const Plane& plane, const SlicedCounters& counters) {
        count_pairs(at, Share::of_grid(), image + plane.offset(at.image), counters);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
histogram_u16_strided(Layout at, const char* image, const u8* mask, u32 flip, Results results) {
    count_slices(at, flip, results, [&](const Plane& plane, const SlicedCounters& counters) {
        count_strided<u16>(at, image + plane.offset(at.image), plane.mask_of(mask, at),
                           [&](u16 value) { counters.add(value); });
    });
}

// Make the tables of planes of 16 bits that were counted, hand out the counts, and leave zeros. A warp takes a chunk of
// the bins. Grid: x parts of the bins, y planes (in steps of gridDim.y).
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
finish_u16(i64 planes, const __grid_constant__ Rule rule, Results results) {
    for (i64 index = blockIdx.y; index < planes; index += gridDim.y) {
        u64* const counts = wide_counts(results.counts, index);
        i64* const counts_out = results.counts_out == nullptr ? nullptr : results.counts_out + index * rule.bins;
        for (i64 chunk = static_cast<i64>(blockIdx.x) * warps() + warp_id(); chunk < CHUNKS; chunk += gridDim.x * warps())
            finish_chunk(counts, rule, table_of(results.tables, rule, index), counts_out, chunk);
        if (is_last_block(&results.tickets[index], gridDim.x) && warp_id() == 0)
            looked_into(counts, rule).clear(counts);
        __syncthreads();  // before the scratch serves the next plane
    }
}
