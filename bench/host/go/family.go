// What malloc's family does besides malloc and free, as one does it in Go.
package main

import (
	"math"
	"unsafe"
)

func roundsOf(n float64, bytes int, how setting) int {
	return int(math.Max(2, n/(1+float64(bytes)/2048)*how.scale))
}

// inARing has sixteen objects, of which the one that was made first makes room for a new one.
func inARing(bytes int, how setting, make func(o *object, own *calls)) measurement {
	n := roundsOf(2e5, bytes, how)
	return medians(bytes, how, n, func(int) {
		var own calls
		var ring [16]object
		for i := 0; i < n; i++ {
			o := &ring[i%16]
			o.drop()
			make(o, &own)
		}
		for i := range ring {
			ring[i].drop()
		}
		own.note()
	})
}

// runCalloc has objects as they are: all are zero.
func runCalloc(how setting) []measurement {
	var out []measurement
	for _, bytes := range []int{48, 1000, 20_000} {
		out = append(out, inARing(bytes, how, func(o *object, own *calls) {
			p := allocate(bytes)
			if p[0]|p[bytes-1] != 0 {
				damaged.Add(1)
			}
			o.take(p, own)
		}))
	}
	return out
}

// runAligned has a part of a longer object.
func runAligned(how setting) []measurement {
	const alignment = 64
	var out []measurement
	for _, bytes := range []int{64, 100, 1000, 4096} {
		out = append(out, inARing(bytes, how, func(o *object, own *calls) {
			longer := allocate(bytes + alignment - 1)
			skip := -int(uintptr(unsafe.Pointer(&longer[0]))) & (alignment - 1)
			o.take(longer[skip:skip+bytes], own)
			if o.address()%alignment != 0 {
				damaged.Add(1)
			}
		}))
	}
	return out
}

// runRealloc has a longer array each time, as Go extends none, but for the room that append takes.
func runRealloc(how setting) []measurement {
	const steps, arrays = 64, 2
	mark := func(at int) byte { return byte(at/64 + 1) }
	var out []measurement
	for _, bytes := range []int{1000, 30_000, 1_000_000, 4_000_000} {
		rounds := roundsOf(4e3, bytes, how)
		out = append(out, medians(bytes, how, rounds*steps*arrays, func(int) {
			var own calls
			for r := 0; r < rounds; r++ {
				var array [arrays][]byte
				length := 0
				for s := 1; s <= steps; s++ {
					longer := bytes * s / steps
					for i := range array {
						p := allocate(longer)
						own.mallocs++
						copy(p, array[i])
						array[i] = p
						for at := (length + 63) / 64 * 64; at < longer; at += 64 {
							p[at] = mark(at)
						}
					}
					length = longer
				}
				for _, a := range array {
					for s := 0; s < steps; s++ {
						at := bytes * s / steps / 64 * 64
						if a[at] != mark(at) {
							damaged.Add(1)
						}
					}
				}
			}
			own.note()
		}))
	}
	return out
}
