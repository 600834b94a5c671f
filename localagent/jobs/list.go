package jobs

import (
	"errors"
	"os"
	"slices"
)

// List returns all records, the latest first. Records that cannot be read are errors beside them. Each may hold a result of 2 MiB: who only
// wants to see what there is asks for Summaries.
func (j *Jobs) List() ([]Record, error) {
	return j.list(func(r Record) Record { return r })
}

// Summaries returns what List does without the results. It holds one result at a time in memory.
func (j *Jobs) Summaries() ([]Record, error) {
	return j.list(func(r Record) Record {
		r.Result = nil
		return r
	})
}

func (j *Jobs) list(what func(Record) Record) ([]Record, error) {
	ids, err := j.known()
	errs := []error{err}
	records := make([]Record, 0, len(ids))
	for _, id := range ids {
		r, err := j.of(id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		records = append(records, what(r))
	}
	slices.SortFunc(records, func(a, b Record) int { return b.Begun.Compare(a.Begun) })
	return records, errors.Join(errs...)
}

// known returns the ids of all records, with those that wait to be written, after it has tried to write these.
func (j *Jobs) known() ([]string, error) {
	ids, err := j.ids()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writeAgain()
	for id := range j.unwritten {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// Prune forgets jobs that ended longer ago than Keep and returns how many. One whose end is not on disk stays.
func (j *Jobs) Prune() (int, error) {
	ids, err := j.known()
	if err != nil {
		return 0, err
	}
	gone := 0
	var errs []error
	for _, id := range ids {
		r, err := j.of(id)
		if err != nil || r.Ended.IsZero() || j.cfg.Now().Sub(r.Ended) < j.cfg.Keep || j.waits(id) {
			continue
		}
		if err := errors.Join(os.Remove(j.file(id)), os.Remove(j.file(id)+lockSuffix)); err != nil {
			errs = append(errs, err)
			continue
		}
		gone++
	}
	return gone, errors.Join(errs...)
}
