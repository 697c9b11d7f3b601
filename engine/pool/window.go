package pool

// window counts results over about the last windowMS, in slices. The zero value is ready; times are not negative.
type window struct {
	at    int64 // number of the newest slice
	slice [windowSlices]struct{ bad, all int32 }
}

const windowSlices = 10

func (w *window) move(now, windowMS float64) {
	at := int64(now / windowMS * windowSlices)
	if at-w.at >= windowSlices || at < w.at-windowSlices {
		*w = window{at: at}
		return
	}
	for w.at < at {
		w.at++
		w.slice[w.at%windowSlices].bad, w.slice[w.at%windowSlices].all = 0, 0
	}
}

func (w *window) add(now, windowMS float64, bad bool) {
	w.move(now, windowMS)
	s := &w.slice[w.at%windowSlices]
	s.all++
	if bad {
		s.bad++
	}
}

func (w *window) sum(now, windowMS float64) (bad, all int) {
	w.move(now, windowMS)
	for _, s := range w.slice {
		bad, all = bad+int(s.bad), all+int(s.all)
	}
	return bad, all
}

func (w *window) share(now, windowMS float64) (float64, int) {
	bad, all := w.sum(now, windowMS)
	if all == 0 {
		return 0, 0
	}
	return float64(bad) / float64(all), all
}
