package splice

import "hash/crc32"

// A gzip stream ends in the CRC of all that went in. When parts of it were compressed long ago, the whole's CRC has to
// come from the parts': appending n bytes to a message multiplies its CRC, read as a polynomial, by x^(8n).

// crcOne is the polynomial 1 in the bit order of CRC-32: the highest bit is x^0.
const crcOne = 1 << 31

// crcMultiply multiplies two polynomials modulo that of CRC-32.
func crcMultiply(a, b uint32) uint32 {
	var product uint32
	for ; a != 0; a <<= 1 {
		if a&crcOne != 0 {
			product ^= b
		}
		carry := b & 1
		b = b>>1 ^ carry*crc32.IEEE // times x
	}
	return product
}

// CRCShift is the factor for n appended bytes.
func CRCShift(n int) uint32 {
	shift, square := uint32(crcOne), uint32(crcOne>>8)
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			shift = crcMultiply(shift, square)
		}
		square = crcMultiply(square, square)
	}
	return shift
}

// CRCAppend is the CRC of a message with CRC a followed by one with CRC b, whose length has the given shift.
func CRCAppend(a, b, shift uint32) uint32 { return crcMultiply(a, shift) ^ b }
