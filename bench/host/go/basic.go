// Pairs and batches: a size, touched or not.
package main

import (
	"math"
	"sort"
)

var sizes = []int{8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 1 << 20}

func touch(p []byte) {
	for i := 0; i < len(p); i += 64 {
		p[i] = 1
	}
}

// batchOf is the number of objects of a batch: 1000, but no more than 32 MiB of them.
func batchOf(bytes int) int {
	return int(math.Min(1000, float64((32<<20)/bytes)))
}

// budget is n, or less of larger objects: as many as of those that are touched. Go clears each one
// whether or not it is, and a million pairs of a megabyte would take minutes.
func budget(n float64, bytes int) float64 {
	return n / (1 + float64(bytes)/2048)
}

// checkObjects has, outside of the time, as many objects at once, with a mark at both ends that has
// to last.
func checkObjects(count, bytes int) {
	var own calls
	all := make([]object, count)
	for i := range all {
		all[i].make(bytes, &own)
	}
	for i := range all {
		all[i].drop()
	}
	own.note()
}

// medians of several times that f, which does so many operations, takes in all threads.
func medians(bytes int, how setting, operations int, f func(me int)) measurement {
	const times = 5
	var ns, cpuNs []float64
	for i := 0; i < times; i++ {
		took := inThreads(how.threads, f)
		ns = append(ns, took.ns/float64(operations))
		cpuNs = append(cpuNs, took.cpuNs/float64(operations))
	}
	sort.Float64s(ns)
	sort.Float64s(cpuNs)
	return measurement{bytes, ns[times/2], cpuNs[times/2]}
}

func runPairs(how setting) []measurement {
	var out []measurement
	for _, bytes := range sizes {
		n := int(math.Max(200, budget(2e5, bytes)*how.scale))
		out = append(out, medians(bytes, how, n, func(int) {
			for i := 0; i < n; i++ {
				p := allocate(bytes)
				if how.touch {
					touch(p)
				}
			}
			allMallocs.Add(uint64(n))
		}))
		checkObjects(1, bytes)
	}
	return out
}

func runBatches(how setting) []measurement {
	var out []measurement
	for _, bytes := range sizes {
		batch := batchOf(bytes)
		rounds := int(math.Max(2, budget(100, bytes)*how.scale))
		ofThread := make([][]*byte, how.threads)
		for t := range ofThread {
			ofThread[t] = make([]*byte, batch)
		}
		out = append(out, medians(bytes, how, rounds*batch, func(me int) {
			all := ofThread[me]
			for r := 0; r < rounds; r++ {
				for i := range all {
					p := allocate(bytes)
					if how.touch {
						touch(p)
					}
					all[i] = &p[0]
				}
				for i := range all {
					all[i] = nil
				}
			}
			allMallocs.Add(uint64(rounds * batch))
		}))
		checkObjects(batch, bytes)
	}
	return out
}
