"""Recognises files that are not read, by their content or name, and says what to do about them."""
import re

AS_TABLE = "save its table as 'CSV UTF-8'"
UNPACK = "unpack it and name the folder with --data FOLDER (in Python: data_dir); of archives only .zip is unpacked here"
# first bytes (see NOT_READ); end of the name (see NOT_READ_NAME); description, and advice
UNREAD_FORMATS = (
    (rb".{257}ustar", r"tar|t[gbx]z2?|tar\.\w+", f"a tar archive: {UNPACK}"),
    (rb"7z\xbc\xaf", r"7z", f"a 7z archive: {UNPACK}"),
    (rb"Rar!", r"rar", f"a RAR archive: {UNPACK}"),
    (rb"\x28\xb5\x2f\xfd", r"zst", f"compressed with Zstandard: {UNPACK}"),
    (rb"ALZ\x01|EGGA", r"alz|egg", f"an ALZip archive: {UNPACK}"),
    (None, r"z\d\d|zip\.\d+", f"one part of an archive: {UNPACK}"),
    (None, r"part|partial|crdownload|download", "an unfinished download: download it again"),
    (rb"\xd0\xcf\x11\xe0", r"xls", "an old Excel file (.xls), or one with a password: save it as .xlsx or 'CSV UTF-8'"),
    (None, r"xls[bm]", f"an Excel file with macros or in binary form: {AS_TABLE}"),
    (None, r"ods", f"an OpenDocument table (.ods): {AS_TABLE}"),
    (None, r"numbers", "a Numbers document: export it as CSV"),
    (None, r"gsheet", "a link to Google Sheets: download the table as CSV"),
    (rb"%PDF", r"pdf", f"a PDF document: {AS_TABLE}"),
    (rb"version https://git-lfs", None, "a Git LFS pointer, not the file itself: run git lfs pull"),
    (rb"\s*<(?i:!doctype html|html|head|body|meta|table)", r"html?", "a web page (HTML): download it again, as a CSV file"),
    (rb"\s*<(?i:\?xml|!)", r"xml", f"an XML file: {AS_TABLE}"),
    (rb"SQLite format 3|\x89HDF|\x93NUMPY", r"sqlite3?|db|hdf5?|h5|np[yz]|orc", f"a file of another program: {AS_TABLE}"),
    (rb"\x80[\x02-\x05]", r"pkl|pickle", "a pickle, which can run programs when it is read: write it with DataFrame.to_csv"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|PK\x03\x04", None, "packed twice: unpack it by hand"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8", None, "a picture, not a table"),
)


def unread_format(name: str, begin: bytes = b"") -> str:
    """Describe a file of a format that is not read, and what to do about it; '' for any other.

    Args:
        name: name of the file.
        begin: its first bytes, 512 or more; without them the name decides.
    """
    for begins, ending, what in UNREAD_FORMATS:
        if begin and begins and re.match(begins, begin.removeprefix(b"\xef\xbb\xbf"), re.DOTALL):
            return what
        if not begin and ending and re.search(rf"\.({ending})$", name.lower()):
            return what
    return ""
