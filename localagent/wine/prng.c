// bcryptprimitives.dll for wine before 9: Go's runtime asks it for random bytes (ProcessPrng) and does not start without.
// SystemFunction036 is RtlGenRandom (learn.microsoft.com, ntsecapi.h).
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID data, ULONG size);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size)
{
	while (size > 0) {
		ULONG n = size > 0x10000000 ? 0x10000000 : (ULONG)size;
		if (!SystemFunction036(data, n))
			return FALSE;
		data += n;
		size -= n;
	}
	return TRUE;
}
