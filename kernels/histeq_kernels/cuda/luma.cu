// Equalize the luma of colour images, in one pass from RGB to RGB.
//
// Layout: planes is 1, the plane strides lead from red to green to blue. Grid: as histogram.cu and lut.cu.

// How the channels of a group of pixels lie in memory.
enum Order { SCATTERED, PLANAR, INTERLEAVED };
template <class T>
__device__ __forceinline__ Order order_of(const Strides& by) {
    if (by.column == 3 * sizeof(T) && (by.plane == sizeof(T) || by.plane == -static_cast<i64>(sizeof(T))))
        return INTERLEAVED;
    return by.column == sizeof(T) && by.plane % VECTOR == 0 ? PLANAR : SCATTERED;
}

// IN_VECTOR<T> pixels in three vectors. `first` is the lowest address of interleaved ones, that of red else.
template <class T, Order ORDER>
struct Group {
    static constexpr int N = IN_VECTOR<T>;
    Vector<T> loaded[3];
    bool blue_first;

    __device__ __forceinline__ Group(const char* first, i64 plane) : blue_first(plane < 0) {
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            const char* const from = first + (ORDER == PLANAR ? c * plane : c * VECTOR);
            loaded[c].whole = *reinterpret_cast<const uint4*>(from);
        }
    }
    __device__ __forceinline__ T& at(int pixel, int channel) {
        if (ORDER == PLANAR) return loaded[channel].element[pixel];
        return loaded[(3 * pixel + channel) / N].element[(3 * pixel + channel) % N];
    }
    __device__ __forceinline__ Pixel<T> pixel(int e) {
        if (ORDER == PLANAR || !blue_first) return Pixel<T>(at(e, 0), at(e, 1), at(e, 2));
        return Pixel<T>(at(e, 2), at(e, 1), at(e, 0));
    }
    __device__ __forceinline__ void set(int e, const Pixel<T>& pixel) {
        const bool swaps = ORDER == INTERLEAVED && blue_first;
        at(e, 0) = static_cast<T>(swaps ? pixel.blue : pixel.red);
        at(e, 1) = static_cast<T>(pixel.green);
        at(e, 2) = static_cast<T>(swaps ? pixel.red : pixel.blue);
    }
    __device__ __forceinline__ void store(char* first, i64 plane) {
        if (reinterpret_cast<u64>(first) % VECTOR == 0 && (ORDER == INTERLEAVED || plane % VECTOR == 0)) {
#pragma unroll
            for (int c = 0; c < 3; ++c)
                __stcs(reinterpret_cast<uint4*>(first + (ORDER == PLANAR ? c * plane : c * VECTOR)), loaded[c].whole);
        } else {
#pragma unroll
            for (int i = 0; i < 3 * N; ++i) {
                const i64 to = ORDER == PLANAR ? i / N * plane + i % N * static_cast<i64>(sizeof(T)) : i * sizeof(T);
                *reinterpret_cast<T*>(first + to) = loaded[i / N].element[i % N];
            }
        }
    }
};
// From red to the lowest address of interleaved pixels.
template <Order ORDER>
__device__ __forceinline__ i64 to_lowest(i64 plane) { return ORDER == INTERLEAVED && plane < 0 ? 2 * plane : 0; }

// Call visit(pixel, counted) for this block's share of the pixels of one image, by groups.
template <class T, Order ORDER, class Visit>
__device__ __forceinline__ void for_each_color(const Layout& at, const char* pixels, const u8* mask, Visit visit) {
    constexpr i64 PIXEL = (ORDER == INTERLEAVED ? 3 : 1) * sizeof(T);  // bytes to the next pixel
    const char* const lowest = pixels + to_lowest<ORDER>(at.image.plane);
    for_each_group<false, T, PIXEL / sizeof(T)>(
        at, lowest,
        [&](const RowOffsets& row, i64 x) {
            Group<T, ORDER> group(lowest + row.image + x * PIXEL, at.image.plane);
#pragma unroll
            for (int e = 0; e < IN_VECTOR<T>; ++e)
                visit(group.pixel(e), mask == nullptr || mask[row.mask + (x + e) * at.mask.column] != 0);
        },
        [&](const RowOffsets& row, i64 x) {
            visit(Pixel<T>(pixels + row.image + x * PIXEL, at.image.plane),
                  mask == nullptr || mask[row.mask + x * at.mask.column] != 0);
        });
}

// Call change(pixel) for this block's share of the pixels of one image, by groups; store the result.
template <class T, Order ORDER, class Change>
__device__ __forceinline__ void map_colors(const Layout& at, const char* pixels, char* targets, Change change) {
    constexpr i64 PIXEL = (ORDER == INTERLEAVED ? 3 : 1) * sizeof(T);  // bytes to the next pixel
    const char* const lowest = pixels + to_lowest<ORDER>(at.image.plane);
    char* const lowest_target = targets + to_lowest<ORDER>(at.out.plane);
    for_each_group<true, T, PIXEL / sizeof(T)>(
        at, lowest,
        [&](const RowOffsets& row, i64 x) {
            Group<T, ORDER> group(lowest + row.image + x * PIXEL, at.image.plane);
#pragma unroll
            for (int e = 0; e < IN_VECTOR<T>; ++e) {
                Pixel<T> pixel = group.pixel(e);
                change(pixel);
                group.set(e, pixel);
            }
            group.store(lowest_target + row.out + x * PIXEL, at.out.plane);
        },
        [&](const RowOffsets& row, i64 x) {
            Pixel<T> pixel(pixels + row.image + x * PIXEL, at.image.plane);
            change(pixel);
            pixel.store(targets + row.out + x * PIXEL, at.out.plane);
        });
}

// Call add(luma) for this block's share of the pixels of one image.
template <class T, class Add>
__device__ __forceinline__ void count_luma(const Layout& at, const char* pixels, const u8* masked, i64 nodata, Add add) {
    const auto count = [&](const Pixel<T>& pixel, bool counted) {
        if (counted && !pixel.is(nodata)) add(static_cast<u32>(pixel.luma()));
    };
    const Order order = order_of<T>(at.image);
    if (order == INTERLEAVED) for_each_color<T, INTERLEAVED>(at, pixels, masked, count);
    else if (order == PLANAR) for_each_color<T, PLANAR>(at, pixels, masked, count);
    else
        for_each_pixel<false>(at, masked, [&](i64 from, i64, bool counted) {
            count(Pixel<T>(pixels + from, at.image.plane), counted);
        });
}

template <class T>
__device__ __forceinline__ void apply_luma(const Layout& at, const char* image, const Tables& tables, char* out) {
    const i64 nodata = tables.nodata, beside = __double2ll_rz(tables.beside_nodata);
    for (i64 index = blockIdx.y; index < at.images; index += gridDim.y) {
        const T* const table = tables.of<T>(Plane(at, index));
        const char* const pixels = image + index * at.image.image;
        char* const targets = out + index * at.out.image;
        const auto change = [&](Pixel<T>& pixel) {
            if (pixel.is(nodata)) return;
            const auto y = pixel.luma();
            pixel.change_luma(y, __ldg(table + y));
            if (pixel.is(nodata)) pixel.fill(beside);
        };
        const Order order = order_of<T>(at.image);
        const bool alike = order == order_of<T>(at.out) && (at.image.plane < 0) == (at.out.plane < 0);
        if (alike && order == INTERLEAVED) map_colors<T, INTERLEAVED>(at, pixels, targets, change);
        else if (alike && order == PLANAR) map_colors<T, PLANAR>(at, pixels, targets, change);
        else
            for_each_pixel<true>(at, nullptr, [&](i64 from, i64 to, bool) {
                Pixel<T> pixel(pixels + from, at.image.plane);
                change(pixel);
                pixel.store(targets + to, at.out.plane);
            });
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
histogram_luma_u8(Layout at, const char* image, const u8* mask, i64 nodata,
                  const __grid_constant__ Rule rule, Results results) {
    count_planes(at, LaneCounters(), rule, results, [&](const Plane& plane, const LaneCounters& counters) {
        count_luma<u8>(at, image + plane.offset(at.image), plane.mask_of(mask, at), nodata,
                       [&](u32 luma) { counters.add(luma); });
    });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
histogram_luma_u16(Layout at, const char* image, const u8* mask, i64 nodata, Results results) {
    count_slices(at, 0, results, [&](const Plane& plane, const SlicedCounters& counters) {
        count_luma<u16>(at, image + plane.offset(at.image), plane.mask_of(mask, at), nodata,
                        [&](u32 luma) { counters.add(luma); });
    });
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
apply_luma_u8(Layout at, const char* image, Tables tables, char* out) {
    apply_luma<u8>(at, image, tables, out);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)
apply_luma_u16(Layout at, const char* image, Tables tables, char* out) {
    apply_luma<u16>(at, image, tables, out);
}
