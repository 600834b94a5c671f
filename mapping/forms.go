package mapping

import "slices"

// forms are the shapes in which a preset takes a value; it takes no other.
type forms uint32

// The forms. What a candidate does not declare is not tried: a digit string is no process id, a number no time, unless it says so.
const (
	formText forms = 1 << iota
	formNumber
	formDecimal
	formHex
	formAbsolutePath
	formFileName
	formHostPort
	formZone
	formRFC3339
	formNoColon
	formCEFDate
	formUSDate
	formEpochS
	formEpochMS
	formEpochUS
	formEpochNS
	formNaiveLocal
	formNaiveUTC
	formFirst
	formDoubled

	// formModifiers say how another form is read and are none themselves.
	formModifiers = formNaiveLocal | formNaiveUTC | formFirst | formZone | formHostPort | formAbsolutePath | formFileName | formDoubled
	formEpochs    = formEpochS | formEpochMS | formEpochUS | formEpochNS
)

// formWord is a form as preset files spell it, with the kinds of fields it is for.
type formWord struct {
	word  string
	form  forms
	kinds []kind
}

func formWords() []formWord {
	return []formWord{
		{"text", formText, []kind{kindText, kindID}},
		{"number", formNumber, []kind{kindText, kindID, kindPID, kindTicks}},
		{"decimal", formDecimal, []kind{kindPID}},
		{"hex", formHex, []kind{kindPID}},
		{"absolute-path", formAbsolutePath, []kind{kindText}},
		{"file-name", formFileName, []kind{kindText}},
		{"doubled-backslashes", formDoubled, []kind{kindText}},
		{"host-port", formHostPort, []kind{kindText, kindAddress}},
		{"zone", formZone, []kind{kindAddress}},
		{"rfc3339", formRFC3339, []kind{kindTime}},
		{"offset-without-colon", formNoColon, []kind{kindTime}},
		{"cef-date", formCEFDate, []kind{kindTime}},
		{"us-date", formUSDate, []kind{kindTime}},
		{"epoch-s", formEpochS, []kind{kindTime}},
		{"epoch-ms", formEpochMS, []kind{kindTime}},
		{"epoch-us", formEpochUS, []kind{kindTime}},
		{"epoch-ns", formEpochNS, []kind{kindTime}},
		{"naive-local", formNaiveLocal, []kind{kindTime}},
		{"naive-utc", formNaiveUTC, []kind{kindTime}},
		{"first", formFirst, []kind{kindText, kindID, kindLevel, kindTime, kindPID, kindTicks, kindMD5, kindSHA256, kindAddress}},
	}
}

// formsOf lists the words that fit a kind of field.
func formsOf(k kind) []string {
	var words []string
	for _, w := range formWords() {
		if slices.Contains(w.kinds, k) {
			words = append(words, w.word)
		}
	}
	return words
}

// orDefault adds what a kind of field takes when its candidate declares nothing but modifiers.
func (f forms) orDefault(k kind) forms {
	if f&^formModifiers != 0 {
		return f
	}
	switch k {
	case kindPID, kindTicks:
		return f | formNumber
	case kindTime:
		return f | formRFC3339
	default:
		return f | formText
	}
}

func (f forms) has(g forms) bool { return f&g != 0 }
