// Histograms of floating images: the range of the values, the edges of the bins, and the counts.
//
// Grid: x parts of a plane, y planes (in steps of gridDim.y). `nodata` NaN: none.

// A double as an integer of the same order, never 0: what the keys of `edges_of_image` start from.
__device__ __forceinline__ u64 ordered(double value) {
    const u64 bits = static_cast<u64>(__double_as_longlong(value));
    return bits >> 63 ? ~bits : bits | 1ull << 63;
}
__device__ __forceinline__ double from_ordered(u64 key) {
    return __longlong_as_double(static_cast<i64>(key >> 63 ? key & ~(1ull << 63) : ~key));
}

// Call visit(pixel, counted) for this block's share of the pixels of one plane: vectors at a time, where they lie
// side by side.
template <class T, class Visit>
__device__ __forceinline__ void for_each_float(const Layout& at, const char* pixels, const u8* mask, Visit visit) {
    if (at.image.column != sizeof(T)) {
        for_each_pixel<false>(at, mask, [&](i64 from, i64, bool counted) {
            visit(Number<T>::load(pixels + from), counted);
        });
        return;
    }
    const auto counted = [&](const RowOffsets& row, i64 x) {
        return mask == nullptr || mask[row.mask + x * at.mask.column] != 0;
    };
    for_each_group<false, T, 1>(
        at, pixels,
        [&](const RowOffsets& row, i64 x) {
            Vector<T> loaded;
            loaded.whole = __ldg(reinterpret_cast<const uint4*>(pixels + row.image + x * sizeof(T)));
#pragma unroll
            for (int e = 0; e < IN_VECTOR<T>; ++e)
                visit(Number<T>::load(&loaded.element[e]), counted(row, x + e));
        },
        [&](const RowOffsets& row, i64 x) {
            visit(Number<T>::load(pixels + row.image + x * sizeof(T)), counted(row, x));
        });
}

// The smallest and largest finite counted value of each plane, then the edges of its bins. `keys` and `tickets`
// are workspace: zeros before and after; a plane's two keys grow to ~ordered(smallest) and ordered(largest).
template <class T>
__device__ __forceinline__ void edges_of_image(const Layout& at, const char* image, const u8* mask, double nodata,
                                               u64* keys, u32* tickets, i64 bins, T* edges) {
    for (i64 index = blockIdx.y; index < at.images * at.planes; index += gridDim.y) {
        const Plane plane(at, index);
        const char* const pixels = image + plane.offset(at.image);
        const u8* const masked = plane.mask_of(mask, at);
        u64 smallest = 0, largest = 0;
        for_each_float<T>(at, pixels, masked, [&](typename Number<T>::Value pixel, bool counted) {
            const double value = widen(pixel);
            if (counted && is_finite(value) && value != nodata) {
                smallest = max(smallest, ~ordered(value));
                largest = max(largest, ordered(value));
            }
        });
#pragma unroll
        for (int distance = WARP / 2; distance > 0; distance /= 2) {
            smallest = max(smallest, __shfl_xor_sync(0xffffffffu, smallest, distance));
            largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
        }
        if (lane_id() == 0 && largest) {
            atomicMax(&keys[2 * index], smallest);
            atomicMax(&keys[2 * index + 1], largest);
        }
        if (is_last_block(&tickets[index], gridDim.x)) {
            const u64 low = __ldcg(keys + 2 * index), high = __ldcg(keys + 2 * index + 1);
            T* const mine = edges + index * (bins + 1);
            if (high) write_edges<T, T>(from_ordered(~low), from_ordered(high), bins, mine);
            else write_edges<T, double>(0, 1, bins, mine);  // nothing was counted
            __syncthreads();
            if (threadIdx.x == 0) keys[2 * index] = keys[2 * index + 1] = 0;
        }
        __syncthreads();  // before the scratch serves the next plane
    }
}

template <class T>
__device__ __forceinline__ void edges_of_range(double low, double high, i64 planes, i64 bins, T* edges) {
    for (i64 index = blockIdx.x; index < planes; index += gridDim.x)
        write_edges<T, double>(low, high, bins, edges + index * (bins + 1));
}

// `copies` of each counter in shared memory. Grid: z slices of the bins, besides.
template <class T>
__device__ __forceinline__ void histogram_bins(const Layout& at, const char* image, const u8* mask, double nodata,
                                               const T* edges, i64 copies, const Rule& rule,
                                               const Results& results) {
    count_planes(at, SlicedCopies(rule.bins, copies), rule, results,
                 [&](const Plane& plane, const SlicedCopies& counters) {
        const char* const pixels = image + plane.offset(at.image);
        const u8* const masked = plane.mask_of(mask, at);
        const Bins<T> bins(edges + (plane.image * at.planes + plane.plane) * (rule.bins + 1), rule.bins);
        for_each_float<T>(at, pixels, masked, [&](typename Number<T>::Value value, bool counted) {
            if (counted && bins.has(value) && widen(value) != nodata)
                counters.add(static_cast<u32>(bins.of(value)));
        });
    });
}

#define FLOATING(NAME, T)                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)                                  \
    edges_of_image_##NAME(Layout at, const char* image, const u8* mask, double nodata, u64* keys,           \
                          u32* tickets, i64 bins, T* edges) {                                               \
        edges_of_image<T>(at, image, mask, nodata, keys, tickets, bins, edges);                             \
    }                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)                                  \
    edges_of_range_##NAME(double low, double high, i64 planes, i64 bins, T* edges) {                        \
        edges_of_range<T>(low, high, planes, bins, edges);                                                  \
    }                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS)                                  \
    histogram_bins_##NAME(Layout at, const char* image, const u8* mask, double nodata, const T* edges,      \
                          i64 copies, const __grid_constant__ Rule rule, Results results) {                 \
        histogram_bins<T>(at, image, mask, nodata, edges, copies, rule, results);                           \
    }

FLOATING(f16, Half)
FLOATING(f32, float)
FLOATING(f64, double)
