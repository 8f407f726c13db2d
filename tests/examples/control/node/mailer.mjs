import nodemailer from 'nodemailer'

// The client under test: it tries five times, and waits twice as long each time.
export async function send(mail, { port, sleep }) {
  const transport = nodemailer.createTransport({ host: '127.0.0.1', port, ignoreTLS: true })
  for (let minutes = 30; ; minutes *= 2) {
    try {
      return await transport.sendMail(mail)
    } catch (error) {
      const temporary = error.responseCode >= 400 && error.responseCode < 500
      if (!temporary || minutes > 480) throw error
      await sleep(minutes)
    }
  }
}
