import ftplib
import sys

with ftplib.FTP() as ftp:
    ftp.connect(sys.argv[1], int(sys.argv[2]))
    ftp.login()
    ftp.retrlines("RETR report.csv")
