// The bins of floating images: their edges, as np.histogram makes them, and the bin of a pixel.

// np.linspace(low, high, bins + 1), computed in the dtype A.
template <class A>
struct Linspace {
    typedef typename Number<A>::Value Value;
    Value low, high, delta, step, bins;
    i64 last;

    __device__ __forceinline__ Linspace(Value from, Value to, i64 count)
        : low(from), high(to), delta(Number<A>::rounded(subtract(to, from))),
          bins(Number<A>::rounded(static_cast<Value>(count))), last(count) {
        step = Number<A>::rounded(divide(delta, bins));
    }
    __device__ __forceinline__ Value operator()(i64 i) const {
        if (i == last) return high;
        const Value place = Number<A>::rounded(static_cast<Value>(i));
        const Value y = !less(0, step)
                            ? multiply(Number<A>::rounded(divide(place, bins)), delta)  // subnormal steps
                            : multiply(place, step);
        return Number<A>::rounded(add(Number<A>::rounded(y), low));
    }
};

// Write the bins + 1 edges of a plane in its dtype T, as np.histogram makes them, computed in the dtype A: that
// of the extremes of an image, or float64 for limits that the caller gives.
template <class T, class A>
__device__ void write_edges(double from, double to, i64 bins, T* edges) {
    typedef typename Number<A>::Value Value;
    Value low = Number<A>::value(from), high = Number<A>::value(to);
    const Value half = 0.5f, two = 2;
    if (!less(low, high)) {  // equal, or they would not be a range
        low = Number<A>::rounded(subtract(low, half));
        high = Number<A>::rounded(add(high, half));
    }
    bool overflow = false;
    const Linspace<A> edge(low, high, bins);
    for (i64 i = threadIdx.x; i <= bins; i += blockDim.x) {
        edges[i] = Number<T>::store(widen(edge(i)));
        overflow |= !is_finite(widen(Number<T>::load(edges + i)));
    }
    if (__syncthreads_or(overflow)) {  // high - low exceeds the dtype: by halves
        const Linspace<A> halved(Number<A>::rounded(divide(low, two)), Number<A>::rounded(divide(high, two)), bins);
        for (i64 i = threadIdx.x; i <= bins; i += blockDim.x)
            edges[i] = Number<T>::store(widen(Number<A>::rounded(multiply(two, halved(i)))));
    }
}

// The bins of one plane.
template <class T>
struct Bins {
    typedef typename Number<T>::Value Value;
    const T* edges;
    i64 count;
    Value lowest, highest, scale;

    __device__ __forceinline__ Bins(const T* at, i64 bins)
        : edges(at), count(bins), lowest(Number<T>::load(at)), highest(Number<T>::load(at + bins)) {
        scale = divide(static_cast<Value>(bins), subtract(highest, lowest));
    }
    __device__ __forceinline__ Value edge(i64 i) const { return Number<T>::load(edges + i); }
    __device__ __forceinline__ bool has(Value value) const {
        return value == value && !less(value, lowest) && !less(highest, value);
    }
    // A bin near the one of `value`, whatever rounding does.
    __device__ __forceinline__ i64 guess(Value value) const {
        const Value place = multiply(subtract(value, lowest), scale);
        // Not below the first bin, nor NaN; a place that is flushed to 0 is bin 0 all the same.
        return place > 0 ? place < static_cast<Value>(count) ? static_cast<i64>(place) : count - 1 : 0;
    }
    // The last bin whose left edge is not above `value`: the product only guesses, the edges decide. It is one step
    // off at most, unless bins are as narrow as the precision.
    __device__ __forceinline__ i64 of(Value value) const {
        i64 bin = guess(value);
        if (bin > 0 && less(value, edge(bin))) --bin;
        if (bin < count - 1 && !less(value, edge(bin + 1))) ++bin;
        const bool is_right = (bin == 0 || !less(value, edge(bin))) &&
                              (bin == count - 1 || less(value, edge(bin + 1)));
        return is_right ? bin : search(value);
    }
    __device__ __forceinline__ i64 search(Value value) const {
        i64 bin = 0, above = count;
#pragma unroll 1
        while (above - bin > 1) {
            const i64 middle = (bin + above) / 2;
            if (less(value, edge(middle))) above = middle;
            else bin = middle;
        }
        return bin;
    }
    // The middle of a bin, as skimage.exposure.histogram computes it in the image's dtype.
    __device__ __forceinline__ double centre(i64 bin) const {
        const Value two = 2, left = edge(bin), right = edge(bin + 1);
        const Value middle = Number<T>::rounded(divide(Number<T>::rounded(add(left, right)), two));
        if (is_finite(widen(middle))) return widen(middle);
        return widen(Number<T>::rounded(
            add(Number<T>::rounded(divide(left, two)), Number<T>::rounded(divide(right, two)))));
    }
};
