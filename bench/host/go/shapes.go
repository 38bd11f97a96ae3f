// Workloads whose threads have objects of their own, and sh8; ../workloads.cpp says more of each.
package main

import "sync"

const groupObjects = 100

// inGroups has groups of 100 objects of one size, sizeOf(group); half of a group is freed at once,
// forwards, the rest a hundred groups later, backwards.
func inGroups(how setting, groups int, toTheNextThread bool, sizeOf func(g int) int) []measurement {
	const window = 100
	type place struct {
		mutex   sync.Mutex
		objects []object
	}
	handed := make([]*place, how.threads)
	for i := range handed {
		handed[i] = new(place)
	}
	took := inThreads(how.threads, func(me int) {
		var own calls
		old := make([][]object, window)
		for i := range old {
			old[i] = make([]object, groupObjects)
		}
		for g := 0; g < groups; g++ {
			now := old[g%window]
			for i := groupObjects - 1; i >= 0; i-- {
				now[i].drop()
			}
			for i := range now {
				now[i].make(sizeOf(g), &own)
			}
			for i := 0; i < groupObjects; i += 2 {
				now[i].drop()
			}
			if !toTheNextThread || g%8 != 0 {
				continue
			}
			// What this thread has left of a group goes to the next one, which frees it.
			next := handed[(me+1)%how.threads]
			next.mutex.Lock()
			if len(next.objects) == 0 {
				next.objects, old[g%window] = now, nil
			}
			next.mutex.Unlock()
			if old[g%window] == nil {
				old[g%window] = make([]object, groupObjects)
			}
			handed[me].mutex.Lock()
			got := handed[me].objects
			handed[me].objects = nil
			handed[me].mutex.Unlock()
			for i := range got {
				got[i].drop()
			}
		}
		for _, objects := range old {
			for i := range objects {
				objects[i].drop()
			}
		}
		own.note()
	})
	for _, p := range handed {
		for i := range p.objects {
			p.objects[i].drop()
		}
	}
	return took.of(groups * groupObjects)
}

// sh has sizes in turn from 1 to 1000 bytes.
func sh(how setting, toTheNextThread bool) []measurement {
	return inGroups(how, scaled(4_000, how), toTheNextThread, func(g int) int { return g%1000 + 1 })
}

func runSh6(how setting) []measurement { return sh(how, false) }
func runSh8(how setting) []measurement { return sh(how, true) }

// runGroups has groups of one size only.
func runGroups(how setting) []measurement {
	var all []measurement
	for _, bytes := range []int{40, 100, 500, 2000} {
		m := inGroups(how, scaled(2_000, how), false, func(int) int { return bytes })[0]
		m.bytes = bytes
		all = append(all, m)
	}
	return all
}

// cache writes to an object of 8 bytes over and over: slow when objects of two threads share a
// line. The first objects come from one thread and are freed by all (scratch), or from each
// (thrash).
func cache(how setting, given bool) []measurement {
	rounds := scaled(2_000, how)
	const writes = 1000
	var givers calls
	first := make([]object, how.threads)
	if given {
		for i := range first {
			first[i].make(8, &givers)
		}
	}
	givers.note()
	took := inThreads(how.threads, func(me int) {
		var own calls
		o := first[me]
		first[me] = object{}
		for r := 0; r < rounds; r++ {
			o.drop()
			o.make(8, &own)
			bytes := (*[8]byte)(o.p)
			for i := uint(0); i < writes; i++ {
				bytes[i%8]++
			}
			m := o.mark()
			bytes[0], bytes[7] = m, m
		}
		o.drop()
		own.note()
	})
	return took.of(rounds)
}

func runScratch(how setting) []measurement { return cache(how, true) }
func runThrash(how setting) []measurement  { return cache(how, false) }

// runGlibcSimple: small objects of one size at a time: 25 of them, then 400, then 1600, freed in
// order.
func runGlibcSimple(how setting) []measurement {
	rounds := scaled(200, how)
	counts := []int{25, 400, 1600}
	operations := 0
	for _, count := range counts {
		operations += 4 * count
	}
	took := inThreads(how.threads, func(int) {
		all := make([]*byte, 1600)
		for r := 0; r < rounds; r++ {
			for _, bytes := range []int{16, 48, 128, 400} {
				for _, count := range counts {
					now := all[:count]
					for i := range now {
						now[i] = &allocate(bytes)[0]
					}
					for i := range now {
						now[i] = nil
					}
				}
			}
		}
		allMallocs.Add(uint64(rounds * operations))
	})
	return took.of(rounds * operations)
}

// runAllocTest: a table of 16384 objects of 2^k sizes up to 1000 bytes, replaced at random.
func runAllocTest(how setting) []measurement {
	const places = 1 << 14
	steps := scaled(600_000, how)
	took := inThreads(how.threads, func(me int) {
		var own calls
		random := newRandoms(me + 3)
		mine := make([]object, places)
		for i := 0; i < steps; i++ {
			o := &mine[random.between(0, places-1)]
			if o.p != nil {
				o.drop()
			} else {
				o.make(random.between(1, 1<<random.between(1, 10)), &own)
			}
		}
		for i := range mine {
			mine[i].drop()
		}
		own.note()
	})
	return took.of(steps / 2)
}

// runReplace: a heap in long use: 100000 objects of half a size to all of it, replaced at random.
func runReplace(how setting) []measurement {
	const places = 100_000
	steps := scaled(1_000_000, how)
	var all []measurement
	for _, bytes := range []int{40, 100, 500} {
		took := inThreads(how.threads, func(me int) {
			var own calls
			random := newRandoms(me + 5)
			mine := make([]object, places)
			for i := range mine {
				mine[i].make(random.between(bytes/2, bytes), &own)
			}
			for i := 0; i < steps; i++ {
				o := &mine[random.between(0, places-1)]
				o.drop()
				o.make(random.between(bytes/2, bytes), &own)
			}
			for i := range mine {
				mine[i].drop()
			}
			own.note()
		})
		m := took.of(places + steps)[0]
		m.bytes = bytes
		all = append(all, m)
	}
	return all
}
