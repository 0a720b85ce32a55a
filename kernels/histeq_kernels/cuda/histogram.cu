// Count the pixels of integer images; the last block of each plane makes its table.
//
// Grid: x parts of a plane, y planes (in steps of gridDim.y), z slices of the values (16 bits only).

constexpr int PIXELS_16 = WARP * VECTORS * VECTOR / 2;  // in a stretch of 16-bit pixels

template <class T, class Counters>
__device__ __forceinline__ void histogram_contiguous(const Layout& at, const char* image, u32 flip,
                                                     Counters counters, const Rule& rule, const Results& results) {
    count_planes(at, counters, rule, results, [&](const Plane& plane, auto add) {
        for_each_value<T>(at, image + plane.offset(at.image), [&](T value) { add(bin_of(value, flip)); });
    });
}

template <class T, class Counters>
__device__ __forceinline__ void histogram_strided(const Layout& at, const char* image, const u8* mask,
                                                  u32 flip, Counters counters, const Rule& rule,
                                                  const Results& results) {
    count_planes(at, counters, rule, results, [&](const Plane& plane, auto add) {
        const char* const pixels = image + plane.offset(at.image);
        const u8* const masked = plane.mask_of(mask, at);
        const auto count = [&](T value) { add(bin_of(value, flip)); };
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
                    if (masked[row.mask + x])
                        count(*reinterpret_cast<const T*>(pixels + row.image + x * sizeof(T)));
                });
            return;
        }
        for_each_pixel<false>(at, masked, [&](i64 from, i64, bool counted) {
            if (counted) count(*reinterpret_cast<const T*>(pixels + from));
        });
    });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
histogram_u8(Layout at, const char* image, u32 flip, const __grid_constant__ Rule rule, Results results) {
    histogram_contiguous<u8>(at, image, 0, counters_u8(flip), rule, results);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
histogram_u16(Layout at, const char* image, u32 flip, const __grid_constant__ Rule rule, Results results) {
    histogram_contiguous<u16>(at, image, flip, counters_u16(at, PIXELS_16), rule, results);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
histogram_u8_strided(Layout at, const char* image, const u8* mask, u32 flip, const __grid_constant__ Rule rule,
                     Results results) {
    histogram_strided<u8>(at, image, mask, 0, counters_u8(flip), rule, results);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
histogram_u16_strided(Layout at, const char* image, const u8* mask, u32 flip, const __grid_constant__ Rule rule,
                      Results results) {
    histogram_strided<u16>(at, image, mask, flip, counters_u16(at, WARP * SINGLES), rule, results);
}
