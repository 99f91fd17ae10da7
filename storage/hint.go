package storage

import "errors"

// Hint is the part of an error that users may read: what is wrong with the database and what its operator can do. Error
// adds what the database itself said, which names hosts and users and belongs in a log.
type Hint struct {
	Words  string
	Detail string
}

func (h *Hint) Error() string { return h.Words + " (" + h.Detail + ")" }

// HintOf returns the words for users within an error; empty when it has none.
func HintOf(err error) string {
	if h, ok := errors.AsType[*Hint](err); ok {
		return h.Words
	}
	return ""
}
