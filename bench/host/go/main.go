// The program of the suite "host" with Go's runtime for an allocator: what ../main.cpp is for the
// others, with the same workloads, counts and random numbers. One more line tells of the runtime:
//
//	go VERSION GOMAXPROCS COLLECTIONS
//
// usage: warpheap_bench_host_go WORKLOAD THREADS TOUCH SCALE
// or --list, which names all workloads
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
)

// setting is how a workload is to run.
type setting struct {
	threads int
	touch   bool    // pairs and batches: write each object
	scale   float64 // of the number of operations
}

// measurement is of pairs of an allocation and its end, unless the workload says otherwise.
type measurement struct {
	bytes      int     // of each object; 0: they vary
	nsPerOp    float64 // by the clock, per operation of one thread
	cpuNsPerOp float64 // CPU time of all threads, the collector's too, per operation of one
}

type workload struct {
	name string
	run  func(how setting) []measurement
}

var workloads = []workload{
	{"pairs", runPairs},
	{"batches", runBatches},
	{"calloc", runCalloc},
	{"aligned", runAligned},
	{"realloc", runRealloc},
	{"larson", runLarson},
	{"xmalloc", runXmalloc},
	{"mstress", runMstress},
	{"rptest", runRptest},
	{"sh6", runSh6},
	{"sh8", runSh8},
	{"groups", runGroups},
	{"cache-scratch", runScratch},
	{"cache-thrash", runThrash},
	{"glibc-simple", runGlibcSimple},
	{"alloc-test", runAllocTest},
	{"replace", runReplace},
}

func list() {
	for _, w := range workloads {
		fmt.Println(w.name)
	}
}

// measure runs a workload and prints its lines; the result is the exit status.
func measure(w workload, how setting) int {
	start := statusKiB("VmRSS:")
	all := w.run(how)
	end := statusKiB("VmRSS:")
	for _, m := range all {
		fmt.Printf("op %d %.4f %.4f\n", m.bytes, m.nsPerOp, m.cpuNsPerOp)
	}
	fmt.Printf("calls %d 0\n", allMallocs.Load()) // a Go program without memory ends
	fmt.Printf("rss %d %d %d\n", start, statusKiB("VmHWM:"), end)
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	fmt.Printf("go %s %d %d\n", runtime.Version(), runtime.GOMAXPROCS(0), memory.NumGC)
	if damaged.Load() != 0 {
		return 1
	}
	return 0
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--list" {
		list()
		return
	}
	if len(os.Args) != 5 {
		os.Exit(2)
	}
	threads, badThreads := strconv.Atoi(os.Args[2])
	touch, badTouch := strconv.ParseBool(os.Args[3])
	scale, badScale := strconv.ParseFloat(os.Args[4], 64)
	if badThreads != nil || badTouch != nil || badScale != nil || threads < 1 {
		os.Exit(2)
	}
	for _, w := range workloads {
		if w.name == os.Args[1] {
			os.Exit(measure(w, setting{threads, touch, scale}))
		}
	}
	os.Exit(2)
}
