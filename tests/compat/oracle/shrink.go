package oracle

import (
	"time"
)

// Rerun performs a script on a fresh pair of servers.
type Rerun func(script []Operation) (*Divergence, error)

// Shrink drops operations for as long as the divergence stays of the same class,
// and stops when nothing more can go or the time is over. It halves the size of
// the pieces that it tries to drop (delta debugging).
func Shrink(script []Operation, found *Divergence, rerun Rerun, deadline time.Time) ([]Operation, *Divergence) {
	best, divergence := script, found
	for piece := max(len(best)/2, 1); piece > 0 && time.Now().Before(deadline); {
		dropped := false
		// The last operation shows the divergence, so it stays.
		for start := 0; start < len(best)-1 && time.Now().Before(deadline); {
			end := min(start+piece, len(best)-1)
			candidate := append(append([]Operation{}, best[:start]...), best[end:]...)
			again, err := rerun(candidate)
			if err == nil && again != nil && again.Class == found.Class &&
				again.Operation.Kind == found.Operation.Kind {
				best, divergence, dropped = candidate[:min(again.Position+1, len(candidate))], again, true
				continue
			}
			start = end
		}
		if !dropped || piece > 1 {
			piece /= 2
		}
	}
	return best, divergence
}
